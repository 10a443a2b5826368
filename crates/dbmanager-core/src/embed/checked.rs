//! Holds every embedder to what the trait promises before a vector reaches a store.

use std::sync::Arc;

use async_trait::async_trait;

use super::{EmbedDocument, EmbedError, Embedder, EmbedderKind, PassageVector};
use crate::model::{Metric, Passage};

/// An embedder whose answers are checked: one vector per text, each empty or of the dimension with
/// finite numbers and not all zero.
#[derive(Clone, Debug)]
pub(crate) struct CheckedEmbedder(Arc<dyn Embedder>);

impl CheckedEmbedder {
    pub(crate) fn new(embedder: Arc<dyn Embedder>) -> Self {
        Self(embedder)
    }

    fn check_number(&self, answered: usize, asked: usize) -> Result<(), EmbedError> {
        if answered == asked {
            return Ok(());
        }
        Err(EmbedError::new(format!(
            "the model {:?} answered {answered} vectors for {asked} texts",
            self.model(),
        )))
    }

    fn check_passage(&self, passage: Option<Passage>, text: &str) -> Result<(), EmbedError> {
        let inside = passage.is_none_or(|passage| {
            let (start, end) = (passage.start as usize, passage.end as usize);
            text.get(start..end).is_some()
        });
        if inside {
            return Ok(());
        }
        Err(EmbedError::new(format!(
            "the model {:?} answered a passage that is not a part of the text",
            self.model(),
        )))
    }

    fn check(&self, vector: &[f32]) -> Result<(), EmbedError> {
        if vector.is_empty() {
            return Ok(());
        }
        let wrong = if vector.len() != self.dimension() as usize {
            format!("a vector of {} numbers", vector.len())
        } else if vector.iter().any(|number| !number.is_finite()) {
            "a number that is not finite".to_owned()
        } else if vector.iter().all(|number| *number == 0.0) {
            "a zero vector".to_owned()
        } else {
            return Ok(());
        };
        Err(EmbedError::new(format!(
            "the model {:?} of dimension {} answered {wrong}",
            self.model(),
            self.dimension()
        )))
    }
}

#[async_trait]
impl Embedder for CheckedEmbedder {
    fn model(&self) -> &str {
        self.0.model()
    }

    fn dimension(&self) -> u32 {
        self.0.dimension()
    }

    fn metric(&self) -> Metric {
        self.0.metric()
    }

    fn kind(&self) -> EmbedderKind {
        self.0.kind()
    }

    async fn embed_documents(&self, texts: Vec<Arc<str>>) -> Result<Vec<Vec<f32>>, EmbedError> {
        let asked = texts.len();
        let vectors = self.0.embed_documents(texts).await?;
        self.check_number(vectors.len(), asked)?;
        vectors.iter().try_for_each(|vector| self.check(vector))?;
        Ok(vectors)
    }

    async fn embed_passages(
        &self,
        documents: Vec<EmbedDocument>,
    ) -> Result<Vec<Vec<PassageVector>>, EmbedError> {
        let texts: Vec<_> = documents.iter().map(|d| Arc::clone(&d.text)).collect();
        let sets = self.0.embed_passages(documents).await?;
        self.check_number(sets.len(), texts.len())?;
        for (set, text) in sets.iter().zip(texts) {
            for vector in set {
                self.check(&vector.values)?;
                self.check_passage(vector.passage, &text)?;
            }
        }
        Ok(sets)
    }

    async fn embed_query(&self, text: Arc<str>) -> Result<Vec<f32>, EmbedError> {
        let vector = self.0.embed_query(text).await?;
        self.check(&vector)?;
        Ok(vector)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers always the same.
    #[derive(Debug)]
    struct Fixed(Vec<Vec<f32>>);

    #[async_trait]
    impl Embedder for Fixed {
        fn model(&self) -> &str {
            "fixed"
        }

        fn dimension(&self) -> u32 {
            2
        }

        fn kind(&self) -> EmbedderKind {
            EmbedderKind::Semantic
        }

        async fn embed_documents(&self, _: Vec<Arc<str>>) -> Result<Vec<Vec<f32>>, EmbedError> {
            Ok(self.0.clone())
        }

        async fn embed_query(&self, _: Arc<str>) -> Result<Vec<f32>, EmbedError> {
            Ok(self.0[0].clone())
        }
    }

    #[tokio::test]
    async fn a_model_that_breaks_its_promise_is_found() {
        for (vector, expected) in [
            (vec![1.0, 0.0], None),
            (vec![], None),
            (vec![1.0], Some("a vector of 1 numbers")),
            (vec![1.0, f32::NAN], Some("a number that is not finite")),
            (vec![0.0, -0.0], Some("a zero vector")),
        ] {
            let embedder = CheckedEmbedder::new(Arc::new(Fixed(vec![vector])));
            let documents = embedder.embed_documents(vec!["a".into()]).await.err();
            let query = embedder.embed_query("a".into()).await.err();
            let expected =
                expected.map(|what| format!("the model \"fixed\" of dimension 2 answered {what}"));
            assert_eq!(documents.map(|error| error.to_string()), expected);
            assert_eq!(query.map(|error| error.to_string()), expected);
        }
        let embedder = CheckedEmbedder::new(Arc::new(Fixed(vec![vec![1.0, 0.0]])));
        let texts = vec!["a".into(), "b".into()];
        assert_eq!(
            embedder
                .embed_documents(texts)
                .await
                .unwrap_err()
                .to_string(),
            "the model \"fixed\" answered 1 vectors for 2 texts"
        );
    }
}
