//! Which nodes a cluster has and which slots they serve. All nodes are asked at once, so that one
//! that hangs does not hold anything up.

use std::{collections::HashMap, sync::Arc};

use ::redis::{Cmd, FromRedisValue, RedisResult, Value};
use tokio::{task::JoinSet, time::timeout};

use super::{
    Cluster, Node,
    address::Address,
    slots::{Range, SLOTS},
    unknown,
};
use crate::store::redis::rediscovery::QUESTION_LIMIT;

impl Cluster {
    /// Rediscovers the cluster in the background: the slots of `suspect` may have moved to another
    /// node.
    pub(super) fn discover_soon(self: &Arc<Self>, suspect: Option<&Arc<Node>>) {
        let (this, suspect) = (Arc::clone(self), suspect.cloned());
        self.rediscovery.soon(async move { this.discover(suspect.as_deref()).await });
    }

    /// Asks all nodes but `suspect`, which may not know what happened to it, and takes the first
    /// answer.
    pub(super) async fn discover(&self, suspect: Option<&Node>) -> RedisResult<()> {
        let known = self.view().nodes.values().cloned().collect::<Vec<_>>();
        let others = known
            .into_iter()
            .filter(|node| suspect.is_none_or(|suspect| suspect.address != node.address));
        if let Ok(ranges) = first_ranges(others.collect()).await {
            return self.learn(ranges);
        }
        // Without retries, so that permanent errors such as a rejected certificate are reported at
        // once.
        let once = self.config.clone().set_number_of_retries(0);
        let connect = |address: &Address| self.connect_to(address.clone(), once.clone());
        let named = self.named.iter().map(|address| connect(address).map(Arc::new));
        self.learn(first_ranges(named.collect::<Result<_, _>>()?).await?)
    }

    fn learn(&self, ranges: Vec<Range>) -> RedisResult<()> {
        let (mut nodes, mut slots) = (HashMap::new(), vec![None; usize::from(SLOTS)]);
        for Range { first, last, address } in ranges {
            let node = self.node(address)?;
            slots[usize::from(first)..=usize::from(last)].fill(Some(Arc::clone(&node)));
            nodes.insert(node.address.clone(), node);
        }
        let mut view = self.view();
        view.nodes = nodes;
        view.slots = slots.into();
        Ok(())
    }
}

/// Sends `command` to all `nodes` at once.
pub(super) fn ask<T: FromRedisValue + Send + 'static>(
    nodes: Vec<Arc<Node>>,
    command: Cmd,
) -> JoinSet<(Arc<Node>, RedisResult<T>)> {
    let command = Arc::new(command);
    let ask = |node: Arc<Node>| {
        let command = Arc::clone(&command);
        async move {
            let answer = timeout(QUESTION_LIMIT, node.server.send(&command)).await;
            let answer = answer.unwrap_or_else(|elapsed| Err(std::io::Error::from(elapsed).into()));
            (node, answer)
        }
    };
    nodes.into_iter().map(ask).collect()
}

async fn first_ranges(nodes: Vec<Arc<Node>>) -> RedisResult<Vec<Range>> {
    let mut command = ::redis::cmd("CLUSTER");
    command.arg("SLOTS");
    let mut answers = ask::<Value>(nodes, command);
    let mut failure = unknown("no node of the cluster is known");
    while let Some(answer) = answers.join_next().await {
        // A task that panicked counts as a node that did not answer.
        let Ok((node, answer)) = answer else { continue };
        match answer.map(|answer| Range::parse(answer, &node.address)) {
            Ok(ranges) if ranges.is_empty() => failure = unknown("the cluster serves no slots"),
            Ok(ranges) => return Ok(ranges),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}
