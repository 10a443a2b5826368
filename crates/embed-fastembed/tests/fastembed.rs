//! What can be told without a model, and, where the environment names one, the model itself:
//! `DBMANAGER_TEST_ONNX_MODEL` (the ONNX file), `DBMANAGER_TEST_ONNX_TOKENIZER` (the directory of
//! its tokenizer) and `ORT_DYLIB_PATH` (the ONNX Runtime library).

use std::sync::Arc;

use dbmanager_core::{
    Runtime,
    embed::{EmbedDocument, EmbedError, Embedder, EmbedderFactory, EmbedderKind},
    model::Metric,
};
use dbmanager_embed_fastembed::FastembedFactory;
use serde_json::{Value, json};

async fn open(config: Value) -> Result<Arc<dyn Embedder>, EmbedError> {
    let Value::Object(config) = config else {
        panic!("an object");
    };
    FastembedFactory.open(&config, &Runtime::tokio()).await
}

async fn message(config: Value) -> String {
    match open(config).await {
        Err(error) => error.to_string(),
        Ok(embedder) => panic!("opened {embedder:?}"),
    }
}

#[tokio::test]
async fn what_is_missing_is_named_before_the_library_is_touched() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, "not what it says").unwrap();
        path
    };
    assert_eq!(
        message(json!({})).await,
        "embedding.config: missing field `model`"
    );
    assert!(
        message(json!({"model": "m", "modle": 1}))
            .await
            .starts_with("embedding.config: unknown field `modle`, expected one of `model`"),
    );
    assert_eq!(
        message(json!({"model": "m", "max_length": 0})).await,
        "\"embedding.config.max_length\" must be at least 1"
    );
    assert_eq!(
        message(json!({"model": "m", "runtime_path": "/no/such/library.so"})).await,
        "\"embedding.config.runtime_path\": the ONNX Runtime library \"/no/such/library.so\" \
         cannot be found: No such file or directory (os error 2)"
    );
    assert_eq!(
        message(json!({"model": "m", "runtime_path": directory.path()})).await,
        format!(
            "\"embedding.config.runtime_path\": {:?} is not a file",
            directory.path()
        )
    );
    let library = file("library.so");
    let model = file("model.onnx");
    assert_eq!(
        message(json!({"model": model, "runtime_path": library})).await,
        format!(
            "\"embedding.config.tokenizer_directory\": the file {:?} cannot be read: \
             No such file or directory (os error 2)",
            directory.path().join("tokenizer.json")
        )
    );
}

/// The model that the environment names; none is a failure if `DBMANAGER_TEST_REQUIRED` lists
/// `minilm`.
fn named_model() -> Option<Value> {
    let variable = |name: &str| {
        let value = std::env::var(name).ok();
        let required = std::env::var("DBMANAGER_TEST_REQUIRED").unwrap_or_default();
        let required = required
            .split(',')
            .any(|name| ["minilm", "registry"].contains(&name.trim()));
        assert!(
            value.is_some() || !required,
            "minilm is required: {name} is not set"
        );
        value
    };
    let model = variable("DBMANAGER_TEST_ONNX_MODEL")?;
    let tokenizer = variable("DBMANAGER_TEST_ONNX_TOKENIZER")?;
    variable("ORT_DYLIB_PATH")?;
    Some(json!({"model": model, "tokenizer_directory": tokenizer}))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_model_keeps_the_promises_of_the_trait() {
    let Some(config) = named_model() else {
        eprintln!("not tested: the environment names no model");
        return;
    };
    let embedder = open(config.clone()).await.unwrap();
    assert_eq!(embedder.kind(), EmbedderKind::Semantic);
    let texts = [
        "A cat sleeps on the sofa.",
        "A kitten is napping on the couch.",
        "The central bank raised interest rates.",
        "",
        " …!",
    ];
    let texts: Vec<Arc<str>> = texts.into_iter().map(Arc::from).collect();
    let vectors = embedder.embed_documents(texts.clone()).await.unwrap();
    for vector in &vectors[..3] {
        assert_eq!(vector.len(), embedder.dimension() as usize);
        let length: f64 = vector.iter().map(|x| f64::from(*x).powi(2)).sum();
        assert!((length - 1.0).abs() < 1e-4, "length {length}");
    }
    assert!(vectors[3].is_empty() && vectors[4].is_empty());
    let near = Metric::Cosine.score(&vectors[0], &vectors[1]);
    let far = Metric::Cosine.score(&vectors[0], &vectors[2]);
    eprintln!("{}: near {near:.3}, far {far:.3}", embedder.model());
    assert!(near > 0.5 && far < 0.2, "near {near}, far {far}");

    let alone = embedder.embed_query(Arc::clone(&texts[1])).await.unwrap();
    assert_eq!(alone, vectors[1], "neighbours change nothing");
    let again = open(config.clone()).await.unwrap();
    assert_eq!(again.space(), embedder.space());
    assert_eq!(
        again.embed_query(Arc::clone(&texts[1])).await.unwrap(),
        alone
    );

    let mut shorter = config.clone();
    shorter["max_length"] = json!(64);
    let shorter = open(shorter).await.unwrap();
    assert_ne!(shorter.model(), embedder.model(), "another space");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_document_is_embedded_passage_by_passage() {
    let Some(mut config) = named_model() else {
        eprintln!("not tested: the environment names no model");
        return;
    };
    config["max_length"] = json!(64);
    config["chunk_overlap"] = json!(8);
    let embedder = open(config.clone()).await.unwrap();
    let filler = "The committee met on Tuesday and approved the minutes of the last meeting. ";
    let text = format!("{}Penguins huddle together in the cold.", filler.repeat(12));
    let long = EmbedDocument::new("Minutes", text.as_str());
    let short = EmbedDocument::new("Minutes", "Nothing was decided.");
    let documents = vec![long, short];
    let mut sets = embedder.embed_passages(documents.clone()).await.unwrap();
    assert_eq!(sets[1].len(), 1);
    assert_eq!(sets[1][0].passage, None, "it fits");
    let long = sets.remove(0);
    assert!(long.len() >= 3, "{} passages", long.len());
    let ends: Vec<_> = long.iter().map(|v| v.passage.unwrap()).collect();
    assert_eq!(ends[0].start, 0);
    assert_eq!(ends[ends.len() - 1].end as usize, text.len());
    assert!(ends.windows(2).all(|pair| pair[1].start <= pair[0].end));
    let query = embedder.embed_query("penguins in the cold".into()).await;
    let query = query.unwrap();
    let score = |vector: &[f32]| Metric::Cosine.score(&query, vector);
    let best =
        (0..long.len()).max_by(|a, b| score(&long[*a].values).total_cmp(&score(&long[*b].values)));
    assert_eq!(best, Some(long.len() - 1), "the end of the text is seen");

    config["chunk_overlap"] = json!(62);
    let message = message(config.clone()).await;
    assert!(message.contains("chunk_overlap"), "{message}");
    // The prefix takes its share of what the model sees.
    config["chunk_overlap"] = json!(8);
    config["document_prefix"] = json!("one two three four five six seven eight nine ten: ");
    let prefixed = open(config).await.unwrap();
    let more = prefixed.embed_passages(documents).await.unwrap();
    assert!(more[0].len() > long.len(), "{}", more[0].len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_model_is_an_error() {
    let Some(mut config) = named_model() else {
        eprintln!("not tested: the environment names no model");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let broken = directory.path().join("model.onnx");
    std::fs::write(&broken, "not what it says").unwrap();
    config["model"] = json!(broken);
    let message = message(config).await;
    assert!(
        message.starts_with("the model cannot be opened: "),
        "{message}"
    );
}
