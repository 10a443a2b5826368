//! Whole documents, lists and full text by full scan.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use async_trait::async_trait;

use super::{MemoryRelational, text};
use crate::{
    backend::{
        BackendResult, DocumentState, IdsRequest, ListDocumentsRequest, RelationalBackend,
        StoredRecord, TextHit, TextSearchRequest,
    },
    model::{CollectionKey, Filter},
};

#[async_trait]
impl RelationalBackend for MemoryRelational {
    async fn get(&self, request: IdsRequest) -> BackendResult<Vec<Option<StoredRecord>>> {
        self.by_id(&request, |id, held| held.record(id))
    }

    async fn search_text(&self, request: TextSearchRequest) -> BackendResult<Vec<TextHit>> {
        let data = self.data()?;
        let collection = data.collection(&request.collection)?;
        let terms = text::terms(collection.options.tokenizer, &request.text);
        let asked = collection.live(request.filter.as_deref(), request.restrict_to.as_deref());
        let mut hits: Vec<_> = if terms.is_empty() {
            asked
                .map(|(id, version, _)| TextHit::new(Arc::clone(id), version, 0.0))
                .collect()
        } else {
            // How rare a term is depends on the whole collection, whatever part is asked for.
            let corpus = text::Corpus::new(
                collection.options.tokenizer,
                collection.live(None, None).map(|(id, _, record)| {
                    let document = record.document();
                    (id, [document.title.as_str(), document.text.as_str()])
                }),
            );
            let scores: BTreeMap<_, _> = corpus.scores(&terms).into_iter().collect();
            asked
                .filter_map(|(id, version, _)| {
                    let score = *scores.get(id)?;
                    Some(TextHit::new(Arc::clone(id), version, score))
                })
                .collect()
        };
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
        hits.truncate(request.limit);
        Ok(hits)
    }

    async fn list(&self, request: ListDocumentsRequest) -> BackendResult<Vec<StoredRecord>> {
        let data = self.data()?;
        let documents = &data.collection(&request.collection)?.documents;
        let above = match request.after_id.as_deref() {
            Some(id) => Bound::Excluded(id),
            None => Bound::Unbounded,
        };
        Ok(documents
            .range::<str, _>((above, Bound::Unbounded))
            .filter(|(_, held)| match (&held.state, &request.filter) {
                (DocumentState::Live(record), Some(filter)) => filter.matches(record.document()),
                (DocumentState::Live(_), None) => true,
                (DocumentState::Deleted, Some(_)) => false,
                (DocumentState::Deleted, None) => request.include_deleted,
            })
            .take(request.limit)
            .map(|(id, held)| held.record(id))
            .collect())
    }

    async fn count(
        &self,
        collection: CollectionKey,
        filter: Option<Arc<Filter>>,
    ) -> BackendResult<u64> {
        let data = self.data()?;
        let count = data
            .collection(&collection)?
            .live(filter.as_deref(), None)
            .count();
        Ok(count as u64)
    }
}
