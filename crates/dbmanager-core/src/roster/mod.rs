//! The stores of a manager: opening and reopening them, their stamps, their standing.

mod open;
mod stamp;
mod store;

pub(crate) use open::{
    RoleSetting, RosterOpening, close_stores, disable_others, open_roster, store_error,
};
use stamp::lacking_state;
pub(crate) use stamp::{is_same, lacks_data};
pub(crate) use store::{Store, StoreStatus};
