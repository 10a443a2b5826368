//! Runs a model that computes on the calling thread, on a bounded number of threads.

use std::{fmt, num::NonZeroUsize, sync::Arc};

use async_trait::async_trait;
use futures_util::future::try_join_all;
use tokio::sync::Semaphore;

use super::{EmbedDocument, EmbedError, Embedder, EmbedderKind, PassageText, PassageVector};
use crate::{Runtime, model::Metric};

/// A model that computes on the calling thread. [`BlockingEmbedder`] makes an [`Embedder`] of it;
/// what that trait owes holds for this one.
pub trait BlockingModel: Send + Sync + fmt::Debug + 'static {
    /// As [`Embedder::model`].
    fn model(&self) -> &str;

    /// As [`Embedder::dimension`].
    fn dimension(&self) -> u32;

    /// As [`Embedder::metric`].
    fn metric(&self) -> Metric {
        Metric::Cosine
    }

    /// As [`Embedder::kind`].
    fn kind(&self) -> EmbedderKind;

    /// The vector of a document, or an empty one.
    ///
    /// # Errors
    /// The model failed.
    fn embed_document(&self, text: &str) -> Result<Vec<f32>, EmbedError>;

    /// The vectors of some documents, in order. The default embeds one after the other.
    ///
    /// # Errors
    /// The model failed.
    fn embed_documents(&self, texts: &[Arc<str>]) -> Result<Vec<Vec<f32>>, EmbedError> {
        texts.iter().map(|text| self.embed_document(text)).collect()
    }

    /// The texts to embed for a document, in order, each with the passage that its vector stands
    /// for. The default is the whole document as one text.
    ///
    /// # Errors
    /// The text cannot be split.
    fn passages(&self, document: &EmbedDocument) -> Result<Vec<PassageText>, EmbedError> {
        Ok(vec![(None, document.joined())])
    }

    /// The vector of a query, or an empty one. The default treats it like a document.
    ///
    /// # Errors
    /// The model failed.
    fn embed_query(&self, text: &str) -> Result<Vec<f32>, EmbedError> {
        self.embed_document(text)
    }
}

/// Runs a [`BlockingModel`] on the blocking pool, on at most a given number of threads at once, so
/// that a large batch neither holds up the tasks of the program nor takes every processor.
///
/// A panic of the model is an error of that call; the embedder stays usable.
#[derive(Debug)]
pub struct BlockingEmbedder<M> {
    runtime: Runtime,
    model: Arc<M>,
    threads: Arc<Semaphore>,
}

/// Texts of one job: few enough to share a batch among threads, enough to make the hand-over
/// cheap.
const TEXTS_PER_JOB: usize = 16;

impl<M: BlockingModel> BlockingEmbedder<M> {
    /// The model on at most `threads` threads.
    pub fn new(runtime: Runtime, model: M, threads: NonZeroUsize) -> Self {
        let threads = threads.get().min(Semaphore::MAX_PERMITS);
        Self {
            runtime,
            model: Arc::new(model),
            threads: Arc::new(Semaphore::new(threads)),
        }
    }

    /// As many threads as the machine has processors.
    pub fn one_thread_per_processor() -> NonZeroUsize {
        std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&M) -> Result<T, EmbedError> + Send + 'static,
    ) -> Result<T, EmbedError> {
        let permit = Arc::clone(&self.threads)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let model = Arc::clone(&self.model);
        let job = self.runtime.blocking(move || {
            // Held by the work, not by who waits for it: that one may be gone before.
            let _permit = permit;
            work(&model)
        });
        job.await
            .map_err(|lost| EmbedError::new("the model panicked").with_source(lost))?
    }
}

#[async_trait]
impl<M: BlockingModel> Embedder for BlockingEmbedder<M> {
    fn model(&self) -> &str {
        self.model.model()
    }

    fn dimension(&self) -> u32 {
        self.model.dimension()
    }

    fn metric(&self) -> Metric {
        self.model.metric()
    }

    fn kind(&self) -> EmbedderKind {
        self.model.kind()
    }

    async fn embed_documents(&self, texts: Vec<Arc<str>>) -> Result<Vec<Vec<f32>>, EmbedError> {
        let jobs = texts.chunks(TEXTS_PER_JOB).map(|texts| {
            let texts = texts.to_vec();
            self.run(move |model| model.embed_documents(&texts))
        });
        Ok(try_join_all(jobs).await?.into_iter().flatten().collect())
    }

    async fn embed_passages(
        &self,
        documents: Vec<EmbedDocument>,
    ) -> Result<Vec<Vec<PassageVector>>, EmbedError> {
        let jobs = documents.chunks(TEXTS_PER_JOB).map(|documents| {
            let documents = documents.to_vec();
            self.run(move |model| {
                let sets = documents.iter().map(|document| embed_one(model, document));
                sets.collect::<Result<Vec<_>, _>>()
            })
        });
        Ok(try_join_all(jobs).await?.into_iter().flatten().collect())
    }

    async fn embed_query(&self, text: Arc<str>) -> Result<Vec<f32>, EmbedError> {
        self.run(move |model| model.embed_query(&text)).await
    }
}

fn embed_one<M: BlockingModel>(
    model: &M,
    document: &EmbedDocument,
) -> Result<Vec<PassageVector>, EmbedError> {
    let (passages, texts): (Vec<_>, Vec<_>) = model.passages(document)?.into_iter().unzip();
    let vectors = model.embed_documents(&texts)?;
    if vectors.len() != passages.len() {
        return Err(EmbedError::new(format!(
            "the model made {} vectors of {} passages",
            vectors.len(),
            passages.len()
        )));
    }
    let vectors = passages.into_iter().zip(vectors);
    Ok(vectors
        .map(|(passage, values)| PassageVector::of(passage, values))
        .collect())
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    /// Waits until as many threads are in it as it may have, and notes how many there were.
    #[derive(Debug, Default)]
    struct Counting {
        inside: Mutex<usize>,
        changed: Condvar,
        most: AtomicUsize,
    }

    impl BlockingModel for Counting {
        fn model(&self) -> &str {
            "counting"
        }

        fn dimension(&self) -> u32 {
            1
        }

        fn kind(&self) -> EmbedderKind {
            EmbedderKind::Lexical
        }

        fn embed_document(&self, text: &str) -> Result<Vec<f32>, EmbedError> {
            let mut inside = self.inside.lock().unwrap();
            *inside += 1;
            self.most.fetch_max(*inside, Ordering::SeqCst);
            self.changed.notify_all();
            while *inside < 2 && self.most.load(Ordering::SeqCst) < 2 {
                inside = self.changed.wait(inside).unwrap();
            }
            *inside -= 1;
            drop(inside);
            match text {
                "panic" => panic!("told to"),
                "fail" => Err(EmbedError::new("told to")),
                text => Ok(vec![text.parse().expect("a number")]),
            }
        }
    }

    /// Makes the vector of the first text alone.
    #[derive(Debug)]
    struct Forgetful;

    impl BlockingModel for Forgetful {
        fn model(&self) -> &str {
            "forgetful"
        }

        fn dimension(&self) -> u32 {
            1
        }

        fn kind(&self) -> EmbedderKind {
            EmbedderKind::Lexical
        }

        fn embed_document(&self, _: &str) -> Result<Vec<f32>, EmbedError> {
            Ok(vec![1.0])
        }

        fn embed_documents(&self, _: &[Arc<str>]) -> Result<Vec<Vec<f32>>, EmbedError> {
            Ok(vec![vec![1.0]])
        }

        fn passages(&self, _: &EmbedDocument) -> Result<Vec<PassageText>, EmbedError> {
            Ok(vec![(None, "one".into()), (None, "two".into())])
        }
    }

    #[test]
    fn a_model_that_loses_a_passage_has_failed() {
        let document = EmbedDocument::new("a title", "a text");
        let error = embed_one(&Forgetful, &document).unwrap_err();
        assert_eq!(error.to_string(), "the model made 1 vectors of 2 passages");
    }

    fn embedder() -> BlockingEmbedder<Counting> {
        let threads = NonZeroUsize::new(2).unwrap();
        BlockingEmbedder::new(Runtime::tokio(), Counting::default(), threads)
    }

    #[tokio::test]
    async fn a_batch_is_shared_among_the_threads_and_answered_in_order() {
        let embedder = embedder();
        let texts: Vec<Arc<str>> = (0..200).map(|n| n.to_string().into()).collect();
        let vectors = embedder.embed_documents(texts).await.unwrap();
        let expected: Vec<_> = (0_u16..200).map(|n| vec![f32::from(n)]).collect();
        assert_eq!(vectors, expected);
        assert_eq!(embedder.model.most.load(Ordering::SeqCst), 2);
        assert!(embedder.embed_documents(vec![]).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_failure_or_a_panic_fails_the_call_and_leaves_the_embedder_usable() {
        let embedder = embedder();
        embedder.model.most.store(2, Ordering::SeqCst);
        for (text, message) in [("fail", "told to"), ("panic", "the model panicked")] {
            for _ in 0..3 {
                let texts = vec![Arc::from("1"), Arc::from(text)];
                let error = embedder.embed_documents(texts).await.unwrap_err();
                assert_eq!(error.to_string(), message);
            }
        }
        let permits = embedder.threads.available_permits();
        assert_eq!(permits, 2, "every permit came back");
        assert_eq!(embedder.embed_query("7".into()).await.unwrap(), [7.0]);
    }
}
