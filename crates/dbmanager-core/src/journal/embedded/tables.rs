//! The journal's tables. Keys are bytes whose order is the order wanted; every value is a record
//! with its own checksum.

use redb::{
    ReadOnlyTable, ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction,
};

use super::{
    super::{EntryHeader, OperationLookup},
    codec::{self, StoredHeader, StoredKey, StoredOperation},
    failure::Failure,
};
use crate::model::{Collection, OperationId, StoreId, Version};

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;
pub(super) type WriteTable<'txn> = Table<'txn, &'static [u8], &'static [u8]>;
pub(super) type ReadTable = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// Names of rows in the table of facts about the journal.
pub(super) mod meta {
    pub(in super::super) const FORMAT: &[u8] = b"format";
    pub(in super::super) const JOURNAL_ID: &[u8] = b"journal_id";
    pub(in super::super) const EPOCH: &[u8] = b"epoch";
    pub(in super::super) const MARK: &[u8] = b"mark";
    pub(in super::super) const GENERATION: &[u8] = b"generation";
    pub(in super::super) const HORIZON: &[u8] = b"horizon";
}

/// One table with its name.
pub(super) struct Records<T> {
    name: &'static str,
    table: T,
}

impl<T: ReadableTable<&'static [u8], &'static [u8]>> Records<T> {
    /// The table's name.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// How many records.
    pub(super) fn count(&self) -> Result<u64, Failure> {
        Ok(self.table.len()?)
    }

    /// Whether there is a record under the key.
    pub(super) fn contains(&self, key: &[u8]) -> Result<bool, Failure> {
        Ok(self.table.get(key)?.is_some())
    }

    /// The content under the key.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        match self.table.get(key)? {
            None => Ok(None),
            Some(record) => {
                let content = codec::unseal(self.name, key, record.value())?;
                Ok(Some(content.to_vec()))
            }
        }
    }

    /// The bytes under the key, whatever they are.
    pub(super) fn get_bare(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        Ok(self.table.get(key)?.map(|bytes| bytes.value().to_vec()))
    }

    /// The records, as they are stored, from the key on.
    pub(super) fn range_from(
        &self,
        key: &[u8],
    ) -> Result<redb::Range<'_, &'static [u8], &'static [u8]>, Failure> {
        Ok(self.table.range::<&[u8]>(key..)?)
    }

    /// Hands each record from `from` on to `visit`, in order, until it says `false`.
    pub(super) fn scan(
        &self,
        from: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        for item in self.range_from(from)? {
            let (key, record) = item?;
            let content = codec::unseal(self.name, key.value(), record.value())?;
            if !visit(key.value(), content)? {
                break;
            }
        }
        Ok(())
    }
}

impl Records<WriteTable<'_>> {
    /// Writes a record; the bytes it takes.
    pub(super) fn put(&mut self, key: &[u8], content: &[u8]) -> Result<u64, Failure> {
        let record = codec::seal(self.name, key, content);
        self.table.insert(key, record.as_slice())?;
        Ok(record.len() as u64)
    }

    /// Writes the fact that must be readable by every version of this library: no record around
    /// it.
    pub(super) fn put_bare(&mut self, key: &[u8], bytes: &[u8]) -> Result<(), Failure> {
        self.table.insert(key, bytes)?;
        Ok(())
    }

    /// Removes a record; whether it was there.
    pub(super) fn remove(&mut self, key: &[u8]) -> Result<bool, Failure> {
        Ok(self.table.remove(key)?.is_some())
    }
}

/// Declares each table once, for reading and for writing.
macro_rules! tables {
    ($($(#[$doc:meta])* $field:ident: $name:literal),* $(,)?) => {
        /// All tables of one transaction.
        pub(super) struct Tables<T> {
            $($(#[$doc])* pub(super) $field: Records<T>,)*
        }

        impl Tables<ReadTable> {
            /// All tables as of the transaction.
            pub(super) fn read(transaction: &ReadTransaction) -> Result<Self, Failure> {
                Ok(Self {
                    $($field: Records {
                        name: $name,
                        table: transaction.open_table(Definition::new($name))?,
                    },)*
                })
            }
        }

        impl<'txn> Tables<WriteTable<'txn>> {
            /// All tables, made if they are not there.
            pub(super) fn write(transaction: &'txn WriteTransaction) -> Result<Self, Failure> {
                Ok(Self {
                    $($field: Records {
                        name: $name,
                        table: transaction.open_table(Definition::new($name))?,
                    },)*
                })
            }
        }
    };
}

tables! {
    /// Facts about the journal, by name.
    meta: "meta",
    /// Headers of live entries, by version.
    headers: "headers",
    /// Documents of live entries, by version.
    contents: "contents",
    /// Operations, by id.
    operations: "operations",
    /// Idempotency keys, by the hash of collection and key.
    keys: "keys",
    /// Operations to forget, by the time counted from, then id.
    expiry: "expiry",
    /// Live collections, by name.
    collections: "collections",
    /// Stores, by id.
    roster: "roster",
    /// Parked entries, by version, then store.
    parked: "parked",
}

/// The table of facts alone, to read the format before anything else is believed.
pub(super) fn read_meta(
    transaction: &ReadTransaction,
) -> Result<Option<Records<ReadTable>>, Failure> {
    match transaction.open_table(Definition::new("meta")) {
        Ok(table) => Ok(Some(Records {
            name: "meta",
            table,
        })),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The key of a version.
pub(super) fn version_key(version: Version) -> [u8; 8] {
    version.as_u64().to_be_bytes()
}

/// The version of a key.
pub(super) fn key_version(table: &str, key: &[u8]) -> Result<Version, Failure> {
    <[u8; 8]>::try_from(key)
        .map(|bytes| Version::from_u64(u64::from_be_bytes(bytes)))
        .map_err(|_| Failure::damaged(format!("{} has no version", codec::describe(table, key))))
}

/// The key of an operation.
pub(super) fn operation_key(operation_id: OperationId) -> [u8; 16] {
    operation_id.as_u128().to_be_bytes()
}

/// The key of a store.
pub(super) fn store_key(store_id: StoreId) -> [u8; 16] {
    store_id.as_u128().to_be_bytes()
}

/// The key of a parked entry.
pub(super) fn parked_key(version: Version, store_id: StoreId) -> [u8; 24] {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&version_key(version));
    key[8..].copy_from_slice(&store_key(store_id));
    key
}

/// The key of an operation to forget once `counted_from` lies the retention time back.
pub(super) fn expiry_key(counted_from: u64, operation_id: OperationId) -> [u8; 24] {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&counted_from.to_be_bytes());
    key[8..].copy_from_slice(&operation_key(operation_id));
    key
}

/// The time and the operation of such a key.
pub(super) fn split_expiry_key(key: &[u8]) -> Result<(u64, OperationId), Failure> {
    let damaged = || Failure::damaged(format!("{} has no time", codec::describe("expiry", key)));
    let (time, id) = key.split_first_chunk::<8>().ok_or_else(damaged)?;
    let id = <[u8; 16]>::try_from(id).map_err(|_| damaged())?;
    Ok((
        u64::from_be_bytes(*time),
        OperationId::from_u128(u128::from_be_bytes(id)),
    ))
}

impl<T: ReadableTable<&'static [u8], &'static [u8]>> Tables<T> {
    /// A number among the facts; 0 if there is none.
    pub(super) fn number(&self, name: &[u8]) -> Result<u64, Failure> {
        match self.meta.get(name)? {
            None => Ok(0),
            Some(content) => codec::decode("meta", name, &content),
        }
    }

    /// The record of an operation.
    pub(super) fn stored_operation(
        &self,
        operation_id: OperationId,
    ) -> Result<Option<StoredOperation>, Failure> {
        let key = operation_key(operation_id);
        match self.operations.get(&key)? {
            None => Ok(None),
            Some(content) => codec::decode(self.operations.name(), &key, &content).map(Some),
        }
    }

    /// What is recorded of an operation; below `horizon` nothing recorded means nothing.
    pub(super) fn lookup(
        &self,
        operation_id: OperationId,
        horizon: u64,
    ) -> Result<OperationLookup, Failure> {
        match self.stored_operation(operation_id)? {
            Some(StoredOperation::Refused) => Ok(OperationLookup::Refused),
            Some(StoredOperation::Accepted {
                version,
                collection,
                id,
                ..
            }) => Ok(OperationLookup::Accepted {
                operation_id,
                version,
                collection,
                id,
                live: self.headers.contains(&version_key(version))?,
            }),
            None if operation_id.unix_milliseconds() < horizon => Ok(OperationLookup::Expired),
            None => Ok(OperationLookup::Unknown),
        }
    }

    /// A live collection.
    pub(super) fn collection(&self, name: &str) -> Result<Option<Collection>, Failure> {
        match self.collections.get(name.as_bytes())? {
            None => Ok(None),
            Some(content) => {
                codec::decode_json(self.collections.name(), name.as_bytes(), &content).map(Some)
            }
        }
    }

    /// The header of a live entry.
    pub(super) fn header(&self, version: Version) -> Result<Option<EntryHeader>, Failure> {
        let key = version_key(version);
        match self.headers.get(&key)? {
            None => Ok(None),
            Some(content) => decode_header(self.headers.name(), version, &content).map(Some),
        }
    }

    /// The record of an idempotency key.
    pub(super) fn stored_key(&self, place: &[u8; 32]) -> Result<Option<StoredKey>, Failure> {
        match self.keys.get(place)? {
            None => Ok(None),
            Some(content) => codec::decode(self.keys.name(), place, &content).map(Some),
        }
    }
}

/// The header in a record's content.
pub(super) fn decode_header(
    table: &str,
    version: Version,
    content: &[u8],
) -> Result<EntryHeader, Failure> {
    let stored: StoredHeader = codec::decode(table, &version_key(version), content)?;
    Ok(stored.into_header(version, (codec::SEAL_BYTES + content.len()) as u64))
}

impl Tables<WriteTable<'_>> {
    /// Sets a number among the facts.
    pub(super) fn set_number(&mut self, name: &[u8], value: u64) -> Result<(), Failure> {
        self.meta.put(name, &codec::encode(&value)?)?;
        Ok(())
    }
}
