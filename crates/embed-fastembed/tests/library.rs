//! A program loads one ONNX Runtime library, so what happens with a wrong one is tested in a
//! program of its own.

use dbmanager_core::{Runtime, embed::EmbedderFactory};
use dbmanager_embed_fastembed::FastembedFactory;
use serde_json::{Value, json};

#[tokio::test]
async fn a_file_that_is_no_library_is_an_error_and_no_panic() {
    let directory = tempfile::tempdir().unwrap();
    for name in [
        "model.onnx",
        "tokenizer.json",
        "config.json",
        "special_tokens_map.json",
        "tokenizer_config.json",
        "library.so",
    ] {
        std::fs::write(directory.path().join(name), "not what it says").unwrap();
    }
    let library = directory.path().join("library.so");
    let config = json!({"model": directory.path().join("model.onnx"), "runtime_path": library});
    let Value::Object(config) = config else {
        panic!("an object");
    };
    let opened = FastembedFactory.open(&config, &Runtime::tokio()).await;
    let message = opened.map(|_| ()).unwrap_err().to_string();
    let library = library.canonicalize().unwrap();
    let expected = format!("the ONNX Runtime library {library:?} cannot be loaded: ");
    assert!(message.starts_with(&expected), "{message}");
}
