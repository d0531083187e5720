//! Looking up which server has which slot.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::select_ok;
use millrace_feature_store::online::{Error, ErrorKind, Result};
use redis::{Pipeline, Value};
use tokio::time::timeout;

use crate::failure::{failed, retry};
use crate::map::Map;
use crate::server::Server;
use crate::shared::Shared;

impl Shared {
    /// The map, looked up first where it is not known yet.
    pub(crate) async fn known_map(self: &Arc<Self>) -> Result<Arc<Map>> {
        if self.map().number == 0 {
            self.refresh(0).await?;
        }
        Ok(self.map())
    }

    /// Looks the slots up, unless somebody has since the map with this number.
    pub(crate) async fn refresh(self: &Arc<Self>, after: u64) -> Result<()> {
        let shared = self.clone();
        let refreshed = tokio::spawn(async move { shared.look_up_slots(after).await }).await;
        refreshed.map_err(|e| Error::with_source(ErrorKind::Retry, "cannot look up the slots: the runtime stops", e))?
    }

    async fn look_up_slots(&self, after: u64) -> Result<()> {
        let _one = self.refreshing.lock().await;
        let map = self.map();
        if map.number > after || !self.target.cluster {
            return Ok(());
        }
        let (linked, others): (Vec<_>, Vec<_>) =
            map.servers.iter().cloned().partition(|server| server.link().is_some());
        let answer = if linked.is_empty() { None } else { self.first_slots_of(linked).await.ok() };
        let (answer, address) = match answer {
            Some(answer) => answer,
            None => {
                let mut asked = others;
                for info in &self.target.seeds {
                    asked.push(Arc::new(Server::new(info.clone(), self.config.clone())?));
                }
                self.first_slots_of(asked).await?
            }
        };
        let next = map.next(&answer, &address, &self.target, &self.config)?;
        if next.uncovered() > 0 {
            tracing::warn!(slots = next.uncovered(), "slots of the cluster of Redis have no master");
        }
        self.set_map(next);
        Ok(())
    }

    /// The answer that comes first, and the address it comes from.
    async fn first_slots_of(&self, servers: Vec<Arc<Server>>) -> Result<(Value, String)> {
        Ok(select_ok(servers.into_iter().map(|server| self.slots_of(server).boxed())).await?.0)
    }

    async fn slots_of(&self, server: Arc<Server>) -> Result<(Value, String)> {
        let attempted = "look up the slots of the cluster";
        let link = match server.link() {
            Some(link) => link,
            None => server.dial().await.map_err(|e| failed(attempted, &server.address, e))?,
        };
        let mut pipeline = Pipeline::new();
        pipeline.cmd("CLUSTER").arg("SLOTS");
        let asked = timeout(self.options.connect_timeout, server.pipeline(&link, &pipeline)).await;
        let Ok(Ok(mut values)) = asked else {
            server.drop_link(&link);
            return Err(retry(format!("cannot {attempted}: Redis at {} does not answer", server.address)));
        };
        match values.pop() {
            Some(Value::ServerError(error))
                if error.details().is_some_and(|text| text.contains("cluster support disabled")) =>
            {
                let message = format!(
                    "cannot connect: Redis at {} does not belong to a cluster; begin the URL with redis://",
                    server.address
                );
                Err(Error::new(ErrorKind::Invalid, message))
            }
            Some(Value::ServerError(error)) => Err(failed(attempted, &server.address, error.into())),
            Some(value) => Ok((value, server.address.clone())),
            None => Err(retry(format!("cannot {attempted}: Redis at {} does not answer", server.address))),
        }
    }
}
