//! `cargo xtask apiserver`: the Kubernetes API server of the suites.

use std::io::Read as _;
use std::time::Instant;

use anyhow::Context;
use foreman_apiserver::{Assets, Server};
use foreman_core::model::manifest::AnyKind;
use foreman_kube::crd;

use crate::repo::say;

/// Finds or builds the programs, says where they are, and with `keep` starts one server.
pub(crate) fn run(keep: bool) -> anyhow::Result<()> {
    let assets = if let Ok(found) = Assets::find() {
        say(format_args!("the API server of the suites is in {}", found.folder().display()));
        found
    } else {
        say(format_args!("building kube-apiserver and etcd: this takes minutes, once"));
        let begin = Instant::now();
        let built = Assets::build()?;
        let seconds = begin.elapsed().as_secs();
        say(format_args!("built in {seconds} s, in {}", built.folder().display()));
        built
    };
    if keep { serve(&assets) } else { Ok(()) }
}

fn serve(assets: &Assets) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let begin = Instant::now();
    let server = runtime.block_on(async {
        let server = Server::start(assets).await?;
        for kind in AnyKind::ALL {
            server.install(&crd::to_json(kind)).await?;
        }
        anyhow::Ok(server)
    })?;
    say(format_args!(
        "ready after {:.1} s; export KUBECONFIG={}",
        begin.elapsed().as_secs_f64(),
        server.kubeconfig().display()
    ));
    std::io::stdin().read_to_end(&mut Vec::new()).context("cannot read the standard input")?;
    Ok(())
}
