//! Labels and annotations that Foreman gives a meaning.

/// On a task: the workload that owns it.
pub const LABEL_WORKLOAD: &str = "foreman.llmkube.dev/workload";
/// On a task: the step it stands for.
pub const LABEL_STEP: &str = "foreman.llmkube.dev/step";
/// On a task or workload: where branches are pushed when that is not the repository itself.
pub const ANNOTATION_PUSH_TO: &str = "foreman.llmkube.dev/push-to";
/// On a task: any value but `false` keeps it from models in the cloud.
pub const ANNOTATION_LOCAL_ONLY: &str = "foreman.llmkube.dev/local-only";
/// On a task: its workload suspended it, and will resume it.
pub const ANNOTATION_SUSPENDED_BY: &str = "foreman.llmkube.dev/suspended-by";
/// On a task: the name of the first task of the chain of retries that it goes on with.
pub const ANNOTATION_RETRY_OF: &str = "foreman.llmkube.dev/retry-of";
/// On a task: turns of its run, in place of its Agent's `maxTurns`.
pub const ANNOTATION_MAX_TURNS: &str = "foreman.llmkube.dev/max-turns";
/// On a node: a word about a cordon.
pub const ANNOTATION_NOTE: &str = "foreman.llmkube.dev/note";
/// On a task: how many strikes it has.
pub const ANNOTATION_CLAIM_EXPIRIES: &str = "foreman.llmkube.dev/claim-expiries";
/// On a task: the claim that the last strike was counted for, as `<attempt>/<node>`.
pub const ANNOTATION_STRUCK: &str = "foreman.llmkube.dev/struck";
/// On a node: set on nodes whose agent is a pod.
pub const LABEL_IN_CLUSTER: &str = "foreman.llmkube.dev/in-cluster";
/// As an Agent's `inferenceServiceRef.name`: whatever model the node that runs it finds.
pub const AUTO_MODEL: &str = "auto";
