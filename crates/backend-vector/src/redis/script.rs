//! What runs on the server: each script is one step that nothing comes between.
//!
//! `#!lua` makes the server check for full memory and for being a replica before a script starts,
//! so that none is stopped halfway. Versions and epochs are text of fixed width, compared by
//! `above`: Lua's own comparison of texts goes by the locale of the server (`locale-collate`),
//! and Danish and Norwegian sort `aa` behind `z`.

use redis::{Cmd, Script, cmd};

/// `above(a, b)`: whether the text `a` comes after `b` by their bytes.
macro_rules! above {
    () => {
        "
local function above(a, b)
  for i = 1, math.max(#a, #b) do
    local x, y = string.byte(a, i) or -1, string.byte(b, i) or -1
    if x ~= y then return x > y end
  end
  return false
end"
    };
}

/// KEYS store, collections, highest, ids, odd, document, vectors.
/// ARGV epoch, collection, its JSON, engine, prefix of chunks, id, version, deleted, facts, shapes,
/// exact vectors, odd, tags, connectivity, expansion; then chunk, passage and numbers of each
/// indexed vector.
const WRITE: &str = concat!(
    "#!lua",
    above!(),
    r#"
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if epoch and above(epoch, ARGV[1]) then return {'stale', epoch} end
local collection = redis.call('HGET', KEYS[2], ARGV[2])
if not collection then return {'missing'} end
if collection ~= ARGV[3] then return {'changed'} end
local held = redis.call('HMGET', KEYS[6], 'v', 'n')
if held[1] and not above(ARGV[7], held[1]) then return {'held'} end
local sets = ARGV[4] == 'vector_sets'
local chunks = {}
for i = 16, #ARGV, 3 do
  chunks[#chunks + 1] = ARGV[i]
  if sets then
    local element = ARGV[i] .. ':' .. ARGV[7] .. ':' .. ARGV[6]
    local added = redis.pcall('VADD', KEYS[7], 'FP32', ARGV[i + 2], element, 'NOQUANT',
      'EF', ARGV[15], 'M', ARGV[14])
    if type(added) == 'table' and added.err then
      for c = 1, #chunks - 1 do
        redis.call('VREM', KEYS[7], chunks[c] .. ':' .. ARGV[7] .. ':' .. ARGV[6])
      end
      return {'failed', added.err}
    end
  end
end
if held[2] then
  for chunk in string.gmatch(held[2], '[^,]+') do
    if sets then
      redis.call('VREM', KEYS[7], chunk .. ':' .. held[1] .. ':' .. ARGV[6])
    else
      redis.call('DEL', ARGV[5] .. chunk .. ':' .. ARGV[6])
    end
  end
end
if not sets then
  for i = 16, #ARGV, 3 do
    local key = ARGV[5] .. ARGV[i] .. ':' .. ARGV[6]
    redis.call('DEL', key)
    redis.call('HSET', key, 'v', ARGV[7], 'p', ARGV[i + 1], 't', ARGV[13], 'e', ARGV[i + 2])
  end
end
redis.call('DEL', KEYS[6])
redis.call('HSET', KEYS[6], 'v', ARGV[7], 'x', ARGV[8])
if ARGV[8] == '0' then
  redis.call('HSET', KEYS[6], 'f', ARGV[9], 's', ARGV[10], 'n', table.concat(chunks, ','))
  if ARGV[11] ~= '' then redis.call('HSET', KEYS[6], 'e', ARGV[11]) end
end
if ARGV[12] == '1' then
  redis.call('ZADD', KEYS[5], 0, ARGV[6])
else
  redis.call('ZREM', KEYS[5], ARGV[6])
end
redis.call('ZADD', KEYS[4], 0, ARGV[6])
local highest = redis.call('HGET', KEYS[3], ARGV[2])
if not highest or above(ARGV[7], highest) then redis.call('HSET', KEYS[3], ARGV[2], ARGV[7]) end
return {'applied'}
"#
);

/// KEYS collections, vectors, document…
/// ARGV collection, engine, prefix of chunks, parts, id…; parts: f facts, s shapes, e vectors,
/// c the copies in the vector set.
const READ: &str = r#"#!lua flags=no-writes
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return {'missing'} end
local sets = ARGV[2] == 'vector_sets'
local function wants(part) return string.find(ARGV[4], part, 1, true) end
local answer = {'found'}
for i = 3, #KEYS do
  local id = ARGV[i + 2]
  local held = redis.call('HMGET', KEYS[i], 'v', 'x', 'n')
  local found = false
  if held[1] then
    local facts, shapes, exact, indexed = false, false, false, {}
    if wants('f') then facts = redis.call('HGET', KEYS[i], 'f') end
    if wants('s') then shapes = redis.call('HGET', KEYS[i], 's') end
    if wants('e') then exact = redis.call('HGET', KEYS[i], 'e') end
    if held[3] and ((wants('e') and not sets) or (wants('c') and sets)) then
      for chunk in string.gmatch(held[3], '[^,]+') do
        if sets then
          indexed[#indexed + 1] = redis.call('VEMB', KEYS[2], chunk .. ':' .. held[1] .. ':' .. id,
            'RAW')
        else
          indexed[#indexed + 1] = redis.call('HGET', ARGV[3] .. chunk .. ':' .. id, 'e')
        end
      end
    end
    found = {held[1], held[2], held[3], facts, shapes, exact, indexed}
  end
  answer[#answer + 1] = found
end
return answer
"#;

/// KEYS store, highest.
const IDENTITY: &str = concat!(
    "#!lua flags=no-writes",
    above!(),
    r#"
local highest = ''
for _, version in ipairs(redis.call('HVALS', KEYS[2])) do
  if above(version, highest) then highest = version end
end
return {redis.call('HMGET', KEYS[1], 'format', 'engine', 'store_id', 'journal_id', 'epoch',
  'progress'), highest}
"#
);

/// KEYS store. ARGV format, engine, replace, store, journal, epoch, progress.
const STAMP: &str = concat!(
    "#!lua",
    above!(),
    r#"
local held = redis.call('HMGET', KEYS[1], 'format', 'engine', 'store_id', 'journal_id', 'epoch',
  'progress')
if (held[1] and held[1] ~= ARGV[1]) or (held[2] and held[2] ~= ARGV[2]) then
  return {'layout', held[1], held[2]}
end
if held[3] then
  local replace = ARGV[3] == '1'
  if held[4] ~= ARGV[5] then
    if not replace then return {'foreign', 'the store belongs to journal ' .. held[4]} end
  else
    local same = held[3] == ARGV[4]
    if not same and not replace then return {'foreign', 'the store is ' .. held[3]} end
    if above(held[5], ARGV[6]) then return {'stale', held[5]} end
    if same and above(held[6], ARGV[7]) then
      return {'foreign', "the store's progress is ahead of the stamp's"}
    end
  end
end
redis.call('HSET', KEYS[1], 'format', ARGV[1], 'engine', ARGV[2], 'store_id', ARGV[4],
  'journal_id', ARGV[5], 'epoch', ARGV[6], 'progress', ARGV[7])
return {'written'}
"#
);

/// KEYS store, collections, dropped. ARGV format, engine, epoch, collection, expected JSON, JSON.
const REGISTER: &str = concat!(
    "#!lua",
    above!(),
    r#"
local held = redis.call('HMGET', KEYS[1], 'format', 'engine', 'epoch')
if held[3] and above(held[3], ARGV[3]) then return {'stale', held[3]} end
if (held[1] and held[1] ~= ARGV[1]) or (held[2] and held[2] ~= ARGV[2]) then
  return {'layout', held[1], held[2]}
end
if redis.call('SISMEMBER', KEYS[3], ARGV[4]) == 1 then return {'dropped'} end
local collection = redis.call('HGET', KEYS[2], ARGV[4]) or ''
if collection ~= ARGV[5] then return {'changed'} end
redis.call('HSET', KEYS[1], 'format', ARGV[1], 'engine', ARGV[2])
redis.call('HSET', KEYS[2], ARGV[4], ARGV[6])
return {'registered'}
"#
);

/// KEYS store, collections, highest, dropped. ARGV epoch, collection.
const DROP: &str = concat!(
    "#!lua",
    above!(),
    r#"
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if epoch and above(epoch, ARGV[1]) then return {'stale', epoch} end
if redis.call('HDEL', KEYS[2], ARGV[2]) == 1 then
  redis.call('HDEL', KEYS[3], ARGV[2])
  redis.call('SADD', KEYS[4], ARGV[2])
end
if redis.call('SISMEMBER', KEYS[4], ARGV[2]) == 1 then return {'dropped'} end
return {'absent'}
"#
);

/// KEYS collections, dropped, ids, odd, vectors. ARGV collection, prefix of documents, prefix of
/// chunks, engine, most documents.
const SWEEP: &str = r#"#!lua
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 0 then return {'swept'} end
local ids = redis.call('ZRANGE', KEYS[3], 0, ARGV[5] - 1)
for _, id in ipairs(ids) do
  local chunks = redis.call('HGET', ARGV[2] .. id, 'n')
  if chunks and ARGV[4] ~= 'vector_sets' then
    for chunk in string.gmatch(chunks, '[^,]+') do
      redis.call('UNLINK', ARGV[3] .. chunk .. ':' .. id)
    end
  end
  redis.call('UNLINK', ARGV[2] .. id)
  redis.call('ZREM', KEYS[3], id)
end
if #ids == tonumber(ARGV[5]) then return {'more'} end
redis.call('UNLINK', KEYS[3], KEYS[4], KEYS[5])
redis.call('SREM', KEYS[2], ARGV[1])
return {'swept'}
"#;

/// KEYS sync. A write that a full memory does not refuse, to have something to wait for.
const TOUCH: &str = r#"#!lua flags=allow-oom
redis.call('SET', KEYS[1], '')
return {'written'}
"#;

/// The scripts, with their hashes.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) write: Lua,
    pub(super) read: Lua,
    pub(super) identity: Lua,
    pub(super) stamp: Lua,
    pub(super) register: Lua,
    pub(super) drop: Lua,
    pub(super) sweep: Lua,
    pub(super) touch: Lua,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            write: Lua::new(WRITE),
            read: Lua::new(READ),
            identity: Lua::new(IDENTITY),
            stamp: Lua::new(STAMP),
            register: Lua::new(REGISTER),
            drop: Lua::new(DROP),
            sweep: Lua::new(SWEEP),
            touch: Lua::new(TOUCH),
        }
    }

    /// The commands that make the server know every script.
    pub(super) fn load(&self) -> redis::Pipeline {
        let mut load = redis::Pipeline::new();
        for script in [
            &self.write,
            &self.read,
            &self.identity,
            &self.stamp,
            &self.register,
            &self.drop,
            &self.sweep,
        ] {
            load.cmd("SCRIPT").arg("LOAD").arg(script.code);
        }
        load
    }
}

/// One script.
#[derive(Debug)]
pub(super) struct Lua {
    code: &'static str,
    hash: String,
}

impl Lua {
    fn new(code: &'static str) -> Self {
        Self {
            code,
            hash: Script::new(code).get_hash().to_owned(),
        }
    }

    /// A call that carries the script itself, so that the server cannot have forgotten it.
    pub(super) fn whole_on(&self, key: &str) -> Cmd {
        let mut call = cmd("EVAL");
        call.arg(self.code).arg(1).arg(key);
        call
    }

    /// A call with these keys; the arguments follow.
    pub(super) fn on(&self, keys: &[&str]) -> Cmd {
        let mut call = cmd("EVALSHA");
        call.arg(&self.hash).arg(keys.len());
        for key in keys {
            call.arg(*key);
        }
        call
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_script_compares_texts_by_the_locale_of_the_server() {
        let scripts = Scripts::new();
        let all = [
            &scripts.write,
            &scripts.read,
            &scripts.identity,
            &scripts.stamp,
            &scripts.register,
            &scripts.drop,
            &scripts.sweep,
            &scripts.touch,
        ];
        for script in all {
            let own = script.code.replace(above!(), "");
            assert!(own.starts_with("#!lua"));
            assert!(!own.contains(['<', '>']), "{own}");
            assert_eq!(own.contains("above("), own.len() < script.code.len());
        }
    }
}
