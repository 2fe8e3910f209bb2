//! The five places where a run can be, and how it is stopped there from outside.

use super::machine::{COMMAND_TURN, Machine, Stop, TURNS};

/// A command that writes into the tree and then waits for ever.
const WAITS: &str =
    "mkdir -p .block && mkfifo .block/tool && : > .block/tool-reached && read -r x < .block/tool";

/// Where a run is when its process is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    ModelCall,
    Tool,
    Gate,
    BeforePush,
    AfterPush,
}

impl Place {
    /// A machine on which the run stops there.
    pub(super) async fn machine(self) -> Machine {
        let command = if self == Self::Tool { WAITS } else { "sh test.sh" };
        let machine = Machine::new(command).await;
        match self {
            Self::ModelCall => machine.model.hold(COMMAND_TURN),
            Self::Tool => {}
            Self::Gate => machine.model.hold(TURNS),
            Self::BeforePush => machine.stop_at(Stop::BeforePush),
            Self::AfterPush => machine.stop_at(Stop::AfterPush),
        }
        machine
    }

    /// Waits until the run is there.
    pub(super) async fn reached(self, machine: &Machine) {
        match self {
            Self::ModelCall => machine.model.asked_for(COMMAND_TURN, 1).await,
            Self::Tool => machine.in_a_tree(".block/tool-reached").await,
            Self::Gate => {
                // The coder's own trial of the test, before its last turn, is not the gate.
                machine.model.asked_for(TURNS, 1).await;
                machine.stop_at(Stop::Gate);
                machine.model.let_go();
                machine.stopped_at(Stop::Gate).await;
            }
            Self::BeforePush => machine.stopped_at(Stop::BeforePush).await,
            Self::AfterPush => machine.stopped_at(Stop::AfterPush).await,
        }
    }

    /// Turns that were asked for more than once, after so many interruptions.
    pub(super) fn asked_again(self, times: usize) -> Vec<(usize, usize)> {
        match self {
            Self::ModelCall => vec![(COMMAND_TURN, 1 + times)],
            Self::Tool | Self::Gate | Self::BeforePush | Self::AfterPush => Vec::new(),
        }
    }
}
