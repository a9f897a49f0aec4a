#![no_main]

use std::path::PathBuf;

use docker_mcp_fuzz::{bodies, seeds};

libfuzzer_sys::fuzz_target!(init: prepare(), |data: &[u8]| bodies::inspect::component(data));

fn prepare() {
    // The third-party decoder may panic, which the inspection catches; libFuzzer's own hook would end the process there.
    // A panic that nobody catches still does.
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let is_decoder = panic.location().is_some_and(|location| location.file().contains("/wit-parser-"));
        if !is_decoder {
            others(panic);
        }
    }));
    // Random bytes hardly ever become a component, so the corpus begins with some. No file of it has been read yet.
    let corpus = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).map(PathBuf::from);
    if let Some(corpus) = corpus.into_iter().find(|path| path.is_dir()) {
        for (name, bytes) in seeds::components() {
            std::fs::write(corpus.join(name), bytes).expect("the corpus cannot be written");
        }
    }
}
