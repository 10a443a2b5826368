//! The wire misbehaves for a while under a running workload; then everything is as acknowledged.

use std::time::Duration;

use super::{
    waiting::{store_health, until},
    workload::Workload,
    world::{World, close},
};
use crate::proxy::Fault;

/// What the wire does; see [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WireFault {
    Latency,
    Cut,
    Reset,
    HalfOpen,
    Blackhole,
    HoldRequests,
    HoldAnswers,
    Drip,
}

impl WireFault {
    fn fault(self) -> Fault {
        match self {
            Self::Latency => Fault::Latency(Duration::from_millis(60)),
            Self::Cut => Fault::Cut,
            Self::Reset => Fault::Reset,
            Self::HalfOpen => Fault::HalfOpen,
            Self::Blackhole => Fault::Blackhole,
            Self::HoldRequests => Fault::HoldRequests,
            Self::HoldAnswers => Fault::HoldAnswers,
            Self::Drip => Fault::Drip {
                bytes: 24,
                every: Duration::from_millis(10),
            },
        }
    }

    /// Whether no attempt succeeds while it lasts; the others only slow the store down.
    fn silences(self) -> bool {
        !matches!(self, Self::Latency | Self::Drip)
    }
}

pub(super) async fn run(world: World, fault: WireFault) {
    let world = world.impatient();
    let db = world.open().await;
    let mut workload = Workload::start(&db, world.role());
    workload.until_done(100).await;

    world.proxy.set(fault.fault()).await;
    if fault.silences() {
        until("an attempt fails, and the store falls behind", async || {
            let store = store_health(&db, world.role());
            let behind = store.error.is_some() && store.backlog > 0;
            if behind { Ok(()) } else { Err(store) }
        })
        .await;
    }
    workload.until_done(200).await;
    world.proxy.set(Fault::None).await;
    workload.until_done(50).await;

    let ledger = workload.stop().await;
    ledger.assert_held_by(&db).await;
    close(db).await;
    let db = world.open().await;
    ledger.assert_held_by(&db).await;
    world.finish(db).await;
}
