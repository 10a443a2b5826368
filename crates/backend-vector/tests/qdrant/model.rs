//! The server's state and what its operations do to it.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard},
};

use qdrant_client::qdrant::{
    CollectionConfig, CollectionInfo, CollectionParams, DenseVector, Distance, Filter,
    NamedVectorsOutput, PayloadSchemaInfo, PointId, PointStruct, PointsSelector, RetrievedPoint,
    ScrollPoints, UpdateMode, Value, VectorOutput, VectorParams, VectorParamsMap, VectorsConfig,
    VectorsOutput, point_id::PointIdOptions, points_selector::PointsSelectorOneOf,
    points_update_operation::PointStructList, value::Kind, vector, vector_output, vectors,
    vectors_config, vectors_output,
};
use tonic::Status;

use super::conditions::{Payload, holds};

/// A server without anything on it.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) version: &'static str,
    pub(super) api_key: Option<&'static str>,
    /// Searches that are not exact miss every fifth chunk.
    pub(super) lossy_index: bool,
    /// A document id that is refused as wrong input.
    pub(super) refuses: Option<&'static str>,
    pub(super) collections: Mutex<BTreeMap<String, Collection>>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            version: "1.18.3",
            api_key: None,
            lossy_index: false,
            refuses: None,
            collections: Mutex::default(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Collection {
    pub(super) vectors: BTreeMap<String, VectorParams>,
    pub(super) metadata: HashMap<String, Value>,
    pub(super) indexes: BTreeMap<String, i32>,
    pub(super) points: BTreeMap<String, Point>,
}

#[derive(Clone, Debug)]
pub(super) struct Point {
    payload: Payload,
    vectors: BTreeMap<String, Vec<f32>>,
}

/// The id as text; UUIDs are in the order of their text.
pub(super) fn id_text(id: Option<&PointId>) -> Result<String, Status> {
    match id.and_then(|id| id.point_id_options.as_ref()) {
        Some(PointIdOptions::Num(number)) => Ok(format!("{number:020}")),
        Some(PointIdOptions::Uuid(uuid)) if uuid.len() == 36 => Ok(uuid.clone()),
        _ => Err(Status::invalid_argument("Unable to parse UUID")),
    }
}

fn point_id(text: &str) -> Option<PointId> {
    Some(PointId {
        point_id_options: Some(match text.parse() {
            Ok(number) => PointIdOptions::Num(number),
            Err(_) => PointIdOptions::Uuid(text.to_owned()),
        }),
    })
}

impl Model {
    pub(super) fn all(&self) -> MutexGuard<'_, BTreeMap<String, Collection>> {
        self.collections.lock().unwrap()
    }

    /// `run` on the collection of this name.
    pub(super) fn on<T>(
        &self,
        name: &str,
        run: impl FnOnce(&mut Collection) -> Result<T, Status>,
    ) -> Result<T, Status> {
        match self.all().get_mut(name) {
            Some(collection) => run(collection),
            None => Err(Status::not_found(format!(
                "Not found: Collection `{name}` doesn't exist!"
            ))),
        }
    }

    pub(super) fn upsert(&self, name: &str, list: PointStructList) -> Result<(), Status> {
        let refused = |point: &PointStruct| {
            let id = point.payload.get("id").and_then(|id| id.kind.as_ref());
            matches!((id, self.refuses), (Some(Kind::StringValue(id)), Some(no)) if id == no)
        };
        if list.points.iter().any(refused) {
            return Err(Status::invalid_argument("Wrong input: poison"));
        }
        self.on(name, |collection| collection.upsert(list))
    }
}

impl Collection {
    fn upsert(&mut self, list: PointStructList) -> Result<(), Status> {
        let mut points = Vec::new();
        for point in list.points {
            let id = id_text(point.id.as_ref())?;
            points.push((id, self.point(point)?));
        }
        for (id, point) in points {
            let held = self.points.get(&id);
            let replaced = held.is_none_or(|held| {
                let filter = list.update_filter.as_ref();
                list.update_mode != Some(UpdateMode::InsertOnly as i32)
                    && filter.is_none_or(|filter| holds(filter, &id, &held.payload))
            });
            if replaced {
                self.points.insert(id, point);
            }
        }
        Ok(())
    }

    fn point(&self, point: PointStruct) -> Result<Point, Status> {
        let vectors = point.vectors.and_then(|vectors| vectors.vectors_options);
        let Some(vectors::VectorsOptions::Vectors(named)) = vectors else {
            return Err(Status::invalid_argument("Expected some vectors"));
        };
        let mut dense = BTreeMap::new();
        for (name, vector) in named.vectors {
            let Some(params) = self.vectors.get(&name) else {
                return Err(Status::invalid_argument(format!(
                    "Wrong input: Not existing vector name error: {name}"
                )));
            };
            let Some(vector::Vector::Dense(DenseVector { data })) = vector.vector else {
                return Err(Status::invalid_argument("Wrong input: not dense"));
            };
            if data.len() as u64 != params.size {
                return Err(Status::invalid_argument(
                    "Wrong input: Vector dimension error",
                ));
            }
            dense.insert(name, data);
        }
        Ok(Point {
            payload: point.payload,
            vectors: dense,
        })
    }

    pub(super) fn delete(&mut self, selector: Option<PointsSelector>) -> Result<(), Status> {
        match selector.and_then(|selector| selector.points_selector_one_of) {
            Some(PointsSelectorOneOf::Filter(filter)) => {
                let keep = |id: &String, point: &mut Point| !holds(&filter, id, &point.payload);
                self.points.retain(keep);
                Ok(())
            }
            other => panic!("the adapter does not use {other:?}"),
        }
    }

    pub(super) fn get(&self, ids: &[PointId]) -> Result<Vec<RetrievedPoint>, Status> {
        let mut found = Vec::new();
        for id in ids {
            let id = id_text(Some(id))?;
            if let Some(point) = self.points.get(&id) {
                found.push(retrieved(&id, point));
            }
        }
        // In no order that was asked for.
        found.reverse();
        Ok(found)
    }

    pub(super) fn scroll(
        &self,
        request: &ScrollPoints,
    ) -> Result<(Vec<RetrievedPoint>, Option<PointId>), Status> {
        let limit = request.limit.unwrap_or(10) as usize;
        let filter = request.filter.clone().unwrap_or_default();
        let matching = self.matching(&filter);
        if let Some(order) = &request.order_by {
            if !self.indexes.contains_key(&order.key) {
                return Err(Status::invalid_argument(
                    "No range index for `order_by` key",
                ));
            }
            let value = |point: &Point| match point.payload.get(&order.key)?.kind {
                Some(Kind::IntegerValue(integer)) => Some(integer),
                _ => None,
            };
            let mut ordered: Vec<_> = matching
                .filter_map(|(id, point)| Some((value(point)?, id, point)))
                .collect();
            ordered.sort_by_key(|(value, ..)| std::cmp::Reverse(*value));
            let page = ordered.iter().take(limit);
            return Ok((
                page.map(|(_, id, point)| retrieved(id, point)).collect(),
                None,
            ));
        }
        let from = match &request.offset {
            Some(offset) => id_text(Some(offset))?,
            None => String::new(),
        };
        let mut rest = matching.filter(|(id, _)| **id >= from);
        let page = rest.by_ref().take(limit);
        let page = page.map(|(id, point)| retrieved(id, point)).collect();
        Ok((page, rest.next().and_then(|(id, _)| point_id(id))))
    }

    fn matching(&self, filter: &Filter) -> impl Iterator<Item = (&String, &Point)> {
        let points = self.points.iter();
        points.filter(move |(id, point)| holds(filter, id, &point.payload))
    }

    /// The chunks nearest to `query` with their scores, nearest first, equal ones by id backwards.
    pub(super) fn nearest(
        &self,
        using: &str,
        query: &[f32],
        filter: &Filter,
        limit: usize,
        lossy: bool,
    ) -> Result<Vec<(RetrievedPoint, f32)>, Status> {
        let Some(params) = self.vectors.get(using) else {
            return Err(Status::invalid_argument("Not existing vector name error"));
        };
        if query.len() as u64 != params.size {
            return Err(Status::invalid_argument(
                "Wrong input: Vector dimension error",
            ));
        }
        let near = |vector: &[f32]| -> f32 {
            let pairs = query.iter().zip(vector);
            match params.distance() {
                Distance::Euclid => pairs.map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt(),
                _ => pairs.map(|(a, b)| a * b).sum(),
            }
        };
        let mut hits: Vec<(&String, &Point, f32)> = self
            .matching(filter)
            .filter_map(|(id, point)| Some((id, point, near(point.vectors.get(using)?))))
            .collect();
        if lossy {
            let mut number = 0;
            hits.retain(|_| {
                number += 1;
                number % 5 != 0
            });
        }
        hits.sort_by(|a, b| {
            let order = match params.distance() {
                Distance::Euclid => a.2.total_cmp(&b.2),
                _ => b.2.total_cmp(&a.2),
            };
            order.then_with(|| Ordering::reverse(a.0.cmp(b.0)))
        });
        hits.truncate(limit);
        let hits = hits.into_iter();
        Ok(hits
            .map(|(id, point, score)| (retrieved(id, point), score))
            .collect())
    }

    pub(super) fn info(&self) -> CollectionInfo {
        let schema = self.indexes.iter().map(|(field, data_type)| {
            let info = PayloadSchemaInfo {
                data_type: *data_type,
                ..PayloadSchemaInfo::default()
            };
            (field.clone(), info)
        });
        let vectors = VectorParamsMap {
            map: self.vectors.clone().into_iter().collect(),
        };
        CollectionInfo {
            payload_schema: schema.collect(),
            config: Some(CollectionConfig {
                params: Some(CollectionParams {
                    vectors_config: Some(VectorsConfig {
                        config: Some(vectors_config::Config::ParamsMap(vectors)),
                    }),
                    ..CollectionParams::default()
                }),
                metadata: self.metadata.clone(),
                ..CollectionConfig::default()
            }),
            ..CollectionInfo::default()
        }
    }
}

fn retrieved(id: &str, point: &Point) -> RetrievedPoint {
    let vectors = point.vectors.iter().map(|(name, values)| {
        let dense = DenseVector {
            data: values.clone(),
        };
        let output = VectorOutput {
            vector: Some(vector_output::Vector::Dense(dense)),
            ..VectorOutput::default()
        };
        (name.clone(), output)
    });
    RetrievedPoint {
        id: point_id(id),
        payload: point.payload.clone(),
        vectors: Some(VectorsOutput {
            vectors_options: Some(vectors_output::VectorsOptions::Vectors(
                NamedVectorsOutput {
                    vectors: vectors.collect(),
                },
            )),
        }),
        ..RetrievedPoint::default()
    }
}
