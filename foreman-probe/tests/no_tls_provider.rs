//! In a process of its own, because a TLS provider is process-wide: an embedder who installed none
//! gets a working client and no panic.

use foreman_probe::{Discoverer, DiscoveryConfig, NotChosen, discover, install_tls_provider};
use rustls::crypto::CryptoProvider;

#[tokio::test]
async fn a_plain_http_probe_works_without_an_installed_provider() {
    assert!(CryptoProvider::get_default().is_none(), "nobody installed one yet");
    // The danger is real: without a provider, reqwest panics instead of returning an error.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let built = std::panic::catch_unwind(|| reqwest::Client::builder().build().is_ok());
    std::panic::set_hook(hook);
    assert!(built.is_err(), "reqwest no longer panics; install_tls_provider may go");

    let config = DiscoveryConfig { local_ports: Vec::new(), ..DiscoveryConfig::default() };
    let discoverer = Discoverer::new(config.clone()).expect("a client");
    assert_eq!(discoverer.discover().await.chosen, Err(NotChosen::NoServer));
    assert!(CryptoProvider::get_default().is_some());
    install_tls_provider();
    assert!(discover(&config).await.is_ok(), "a second time is fine");
}
