//! What stands between the library and every store, composed in one place, from the outside in:
//!
//! metrics ▸ total budget ▸ retry (with a retry budget) ▸ circuit breaker ▸ attempt timeout ▸ adapter
//!
//! Why this order:
//! - metrics see what the caller sees, once per call, however many attempts it took;
//! - the total budget stands outside the retries but never cuts them off blindly: it shortens each
//!   attempt to what is left, and a wait that would outlast it is not begun;
//! - the breaker stands inside the retries, so that it counts attempts, and an open circuit ends
//!   the retries at once;
//! - the attempt timeout stands inside the breaker, so that a silent store counts as a failing one.

mod breaker;
mod guard;
mod guarded;
mod retry_budget;
mod settings;

pub use breaker::CircuitState;
pub(crate) use guard::{CallClass, Guard};
pub(crate) use guarded::guard_backend;
pub(crate) use settings::ResilienceSettings;
