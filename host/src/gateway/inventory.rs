//! What all servers together offer, and which server each name belongs to.
//!
//! It is filled by [`super::discovery`] as servers answer. Readers wait for those under way, but never beyond the
//! start-up timeout; what arrives later is counted, so that clients can be told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use rmcp::model::{Prompt, Resource, ResourceTemplate, Tool};
use tokio::sync::watch;
use tokio::time::Instant;

use super::ToolFilter;
use super::servers::{Server, Servers};

/// How many servers are named that something missing may be of.
const EXCUSES: usize = 3;

/// What one server offers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Offer {
    /// Its tools.
    pub tools: Vec<Tool>,
    /// Its prompts.
    pub prompts: Vec<Prompt>,
    /// Its resources.
    pub resources: Vec<Resource>,
    /// Its resource templates.
    pub templates: Vec<ResourceTemplate>,
}

/// How far the discovery of a server is.
#[derive(Clone, Debug)]
pub(crate) enum Status {
    /// It is under way.
    Pending,
    /// It is done.
    Ready(Arc<Offer>),
    /// It failed, for this reason, which names the server.
    Failed(String),
    /// It is no longer one of the servers.
    Retired,
}

/// Where a name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The index of the server.
    pub server: usize,
    /// The name at the server.
    pub name: String,
}

/// How often each kind of list changed after the start-up timeout, or after its server was discovered or had failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LateChanges {
    /// Tools.
    pub tools: u64,
    /// Prompts.
    pub prompts: u64,
    /// Resources and templates.
    pub resources: u64,
}

/// Everything known at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// By index of the server.
    pub status: Vec<Status>,
    /// All tools under the names that clients see, in the order of servers.
    pub tools: Vec<Tool>,
    /// The names of tools that the filter leaves out.
    pub left_out: BTreeSet<String>,
    /// Where they lead.
    pub tool_routes: HashMap<String, Route>,
    /// All prompts under the names that clients see.
    pub prompts: Vec<Prompt>,
    /// Where they lead.
    pub prompt_routes: HashMap<String, Route>,
    /// All resources.
    pub resources: Vec<Resource>,
    /// Which server has them.
    pub resource_routes: HashMap<String, usize>,
    /// All resource templates with their servers.
    pub templates: Vec<(ResourceTemplate, usize)>,
    /// What changed late.
    pub late: LateChanges,
}

impl Snapshot {
    fn is_settled(&self) -> bool {
        !self.status.iter().any(|status| matches!(status, Status::Pending))
    }

    /// The server that has a resource, by its address or by a template.
    pub(crate) fn resource_route(&self, uri: &str) -> Option<usize> {
        self.resource_routes.get(uri).copied().or_else(|| {
            let template = self.templates.iter().find(|(template, _)| matches_template(&template.uri_template, uri));
            template.map(|(_, server)| *server)
        })
    }
}

/// The offers of all servers.
#[derive(Debug)]
pub(crate) struct Inventory {
    servers: Arc<Servers>,
    filter: ToolFilter,
    state: watch::Sender<Arc<Snapshot>>,
    deadline: Instant,
    /// How many servers there were at first. What comes later is late, whenever it comes.
    first: OnceLock<usize>,
}

impl Inventory {
    /// An inventory whose readers wait until `deadline` at most. It has the tools that the filter lets through.
    pub(crate) fn new(servers: Arc<Servers>, filter: ToolFilter, deadline: Instant) -> Self {
        let (state, _) = watch::channel(Arc::new(Snapshot::default()));
        Self { servers, filter, state, deadline, first: OnceLock::new() }
    }

    /// Takes account of servers that came, went or changed places.
    pub(crate) fn rearrange(&self) {
        self.first.get_or_init(|| self.servers.indices());
        self.state.send_modify(|snapshot| {
            let mut next = Snapshot { status: snapshot.status.clone(), late: snapshot.late, ..Snapshot::default() };
            next.status.resize(self.servers.indices(), Status::Pending);
            for (index, status) in next.status.iter_mut().enumerate() {
                if self.servers.get(index).is_none() {
                    *status = Status::Retired;
                }
            }
            self.merge(&mut next, None);
            next.late.tools += u64::from(next.tools != snapshot.tools);
            next.late.prompts += u64::from(next.prompts != snapshot.prompts);
            let is_same = next.resources == snapshot.resources && next.templates == snapshot.templates;
            next.late.resources += u64::from(!is_same);
            *snapshot = Arc::new(next);
        });
    }

    /// The patterns of the filter that match no tool so far.
    pub(crate) fn unused_patterns(&self) -> Vec<String> {
        let snapshot = self.now();
        let servers = self.servers.active();
        let offers = servers.iter().filter_map(|(index, server)| match snapshot.status.get(*index) {
            Some(Status::Ready(offer)) => Some((server, offer)),
            _ => None,
        });
        let names = offers.flat_map(|(server, offer)| {
            let names = offer.tools.iter().flat_map(|tool| [tool.name.to_string(), exposed(server, &tool.name)]);
            names.map(|name| (server.name.as_str(), name))
        });
        let names: Vec<(&str, String)> = names.collect();
        self.filter.unused(names.iter().map(|(server, name)| (*server, name.as_str())))
    }

    /// What is known now.
    pub(crate) fn now(&self) -> Arc<Snapshot> {
        Arc::clone(&self.state.borrow())
    }

    /// What is known once every server has answered or failed, or the start-up timeout is over.
    pub(crate) async fn settled(&self) -> Arc<Snapshot> {
        let mut changes = self.state.subscribe();
        let settled = changes.wait_for(|snapshot| snapshot.is_settled());
        let _ = tokio::time::timeout_at(self.deadline, settled).await;
        self.now()
    }

    /// Once every server has answered or failed, however long that takes.
    pub(crate) async fn complete(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.state.subscribe().wait_for(|snapshot| snapshot.is_settled()).await;
    }

    /// To be told of changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.state.subscribe()
    }

    /// Records how the discovery of a server ended, or what it offers now.
    pub(crate) fn record(&self, server: usize, status: Status) {
        // At the deadline itself lists may have been given out.
        let is_late = Instant::now() >= self.deadline || self.first.get().is_some_and(|first| server >= *first);
        self.state.send_modify(|snapshot| {
            let mut next = Snapshot { status: snapshot.status.clone(), late: snapshot.late, ..Snapshot::default() };
            if matches!(snapshot.status.get(server), None | Some(Status::Retired)) {
                return;
            }
            let known = match snapshot.status.get(server) {
                Some(Status::Ready(offer)) => Some(Arc::clone(offer)),
                _ => None,
            };
            // Lists may have been given out without a server that failed at first.
            let has_failed = matches!(snapshot.status.get(server), Some(Status::Failed(_)));
            if let (true, Status::Ready(offer)) = (is_late || known.is_some() || has_failed, &status) {
                let known = known.unwrap_or_default();
                next.late.tools += u64::from(offer.tools != known.tools);
                next.late.prompts += u64::from(offer.prompts != known.prompts);
                let is_same = offer.resources == known.resources && offer.templates == known.templates;
                next.late.resources += u64::from(!is_same);
            }
            if let Some(slot) = next.status.get_mut(server) {
                *slot = status;
            }
            self.merge(&mut next, Some(server));
            *snapshot = Arc::new(next);
        });
    }

    /// Joins the offers in the order of servers. `newest` is the one whose collisions are worth a warning.
    fn merge(&self, snapshot: &mut Snapshot, newest: Option<usize>) {
        let status = snapshot.status.clone();
        for (server, definition) in self.servers.active() {
            let Some(Status::Ready(offer)) = status.get(server) else { continue };
            for tool in offer.tools.iter().filter(|tool| definition.entry.offers_tool(&tool.name)) {
                let route = Route { server, name: tool.name.to_string() };
                let name = exposed(&definition, &route.name);
                if !self.filter.allows(&definition.name, &route.name, &name) {
                    snapshot.left_out.insert(name);
                    continue;
                }
                if self.claim("tool", &mut snapshot.tool_routes, name.clone(), route, newest) {
                    let mut tool = tool.clone();
                    tool.name = name.into();
                    snapshot.tools.push(tool);
                }
            }
            for prompt in &offer.prompts {
                let route = Route { server, name: prompt.name.clone() };
                let name = exposed(&definition, &route.name);
                if self.claim("prompt", &mut snapshot.prompt_routes, name.clone(), route, newest) {
                    let mut prompt = prompt.clone();
                    prompt.name = name;
                    snapshot.prompts.push(prompt);
                }
            }
            for resource in &offer.resources {
                let mut routes = HashMap::new();
                if let Some(first) = snapshot.resource_routes.get(&resource.uri) {
                    routes.insert(resource.uri.clone(), Route { server: *first, name: resource.uri.clone() });
                }
                let route = Route { server, name: resource.uri.clone() };
                if self.claim("resource", &mut routes, resource.uri.clone(), route, newest) {
                    snapshot.resource_routes.insert(resource.uri.clone(), server);
                    snapshot.resources.push(resource.clone());
                }
            }
            snapshot.templates.extend(offer.templates.iter().map(|template| (template.clone(), server)));
        }
    }

    fn claim(
        &self,
        kind: &str,
        routes: &mut HashMap<String, Route>,
        name: String,
        route: Route,
        newest: Option<usize>,
    ) -> bool {
        if let Some(first) = routes.get(&name) {
            if newest.is_none_or(|newest| first.server == newest || route.server == newest) {
                tracing::warn!(
                    kind,
                    name,
                    used = self.name(first.server),
                    hidden = self.name(route.server),
                    "two servers offer the same name; the first is used, set `prefix` in a catalog entry to have both"
                );
            }
            return false;
        }
        routes.insert(name, route);
        true
    }

    fn name(&self, server: usize) -> String {
        self.servers.get(server).map_or_else(String::new, |server| server.name.clone())
    }

    /// Why a name may be missing: the servers that failed or are not there yet. Those whose catalog entry lists the
    /// tool, or has the prefix of its name, come alone; of many only the first are told.
    pub(crate) fn excuses(&self, tool: Option<&str>) -> Vec<String> {
        let snapshot = self.now();
        let mut excuses = BTreeMap::new();
        for (index, server) in self.servers.active() {
            let excuse = match snapshot.status.get(index) {
                Some(Status::Ready(_) | Status::Retired) => continue,
                Some(Status::Failed(reason)) => reason.clone(),
                None | Some(Status::Pending) => {
                    format!("server `{}` is still starting; try again in a moment", server.name)
                }
            };
            let declares = tool.is_some_and(|tool| {
                let has_prefix = server.entry.prefix.as_deref().is_some_and(|prefix| !prefix.is_empty());
                (has_prefix && tool.starts_with(&exposed(&server, "")))
                    || server.entry.tools.iter().any(|known| exposed(&server, &known.name) == tool)
            });
            excuses.insert((!declares, index), excuse);
        }
        let has_declared = excuses.keys().any(|(undeclared, _)| !undeclared);
        excuses.retain(|(undeclared, _), _| !(has_declared && *undeclared));
        let more = excuses.len().saturating_sub(EXCUSES);
        let more = (more > 0).then(|| format!("and {more} more"));
        excuses.into_values().take(EXCUSES).chain(more).collect()
    }
}

/// The name that clients see.
fn exposed(server: &Server, name: &str) -> String {
    match server.entry.prefix.as_deref() {
        Some(prefix) if !prefix.is_empty() => format!("{}__{name}", clean(prefix)),
        _ => name.to_owned(),
    }
}

/// Clients accept letters, digits, `_` and `-` in the names of tools.
fn clean(prefix: &str) -> String {
    prefix.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

/// Whether an address may have been made from a template: every expression stands for any text.
fn matches_template(template: &str, uri: &str) -> bool {
    let mut literals = Vec::new();
    let mut rest = template;
    while let Some((literal, after)) = rest.split_once('{') {
        let Some((_, after)) = after.split_once('}') else { return false };
        literals.push(literal);
        rest = after;
    }
    let Some((first, middle)) = literals.split_first() else { return template == uri };
    let Some(mut uri) = uri.strip_prefix(first).and_then(|uri| uri.strip_suffix(rest)) else { return false };
    for literal in middle {
        let Some((_, after)) = uri.split_once(literal) else { return false };
        uri = after;
    }
    true
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::catalog::Entry;
    use crate::catalog::entry::ToolEntry;
    use crate::gateway::{GatewayOptions, ServerDefinition};

    fn inventory(entries: Vec<(&str, Entry)>) -> Inventory {
        filtered(entries, ToolFilter::default())
    }

    fn filtered(entries: Vec<(&str, Entry)>, filter: ToolFilter) -> Inventory {
        let definitions = entries
            .into_iter()
            .map(|(name, entry)| ServerDefinition { name: name.to_owned(), entry: Arc::new(entry) })
            .collect();
        let inventory = Inventory::new(Arc::default(), filter, Instant::now() + Duration::from_secs(60));
        replace(&inventory, definitions);
        inventory
    }

    fn replace(inventory: &Inventory, definitions: Vec<ServerDefinition>) {
        inventory.servers.replace(definitions, &BTreeSet::new(), &GatewayOptions::default(), &CancellationToken::new());
        inventory.rearrange();
    }

    fn offer(tools: &[&str]) -> Status {
        let tools = tools
            .iter()
            .map(|name| serde_json::from_value(json!({"name": name, "inputSchema": {"type": "object"}})).unwrap());
        Status::Ready(Arc::new(Offer { tools: tools.collect(), ..Offer::default() }))
    }

    #[test]
    fn the_first_server_in_the_given_order_wins_whoever_answers_first() {
        let inventory = inventory(vec![("a", Entry::default()), ("b", Entry::default())]);
        inventory.record(1, offer(&["same", "only_b"]));
        assert_eq!(inventory.now().tool_routes["same"].server, 1);
        inventory.record(0, offer(&["same"]));
        let now = inventory.now();
        assert_eq!(now.tool_routes["same"].server, 0);
        assert_eq!(now.tools.iter().map(|tool| tool.name.as_ref()).collect::<Vec<_>>(), ["same", "only_b"]);
    }

    #[test]
    fn a_prefix_makes_both_reachable() {
        let prefixed = Entry { prefix: Some("b.2".to_owned()), ..Entry::default() };
        let inventory = inventory(vec![("a", Entry::default()), ("b", prefixed)]);
        inventory.record(0, offer(&["same"]));
        inventory.record(1, offer(&["same"]));
        assert_eq!(inventory.now().tool_routes["b_2__same"], Route { server: 1, name: "same".to_owned() });
    }

    #[test]
    fn a_tool_that_is_not_enabled_is_neither_listed_nor_found() {
        let enabled = Entry { enabled_tools: Some(["kept".to_owned()].into()), ..Entry::default() };
        let inventory = inventory(vec![("a", enabled), ("b", Entry::default())]);
        inventory.record(0, offer(&["kept", "hidden", "same"]));
        inventory.record(1, offer(&["same"]));
        let now = inventory.now();
        assert_eq!(now.tools.iter().map(|tool| tool.name.as_ref()).collect::<Vec<_>>(), ["kept", "same"]);
        assert!(!now.tool_routes.contains_key("hidden"));
        assert_eq!(now.tool_routes["same"].server, 1);
    }

    #[test]
    fn a_missing_tool_is_blamed_on_the_server_that_declares_it() {
        let declaring =
            Entry { tools: vec![ToolEntry { name: "x".to_owned(), ..ToolEntry::default() }], ..Entry::default() };
        let inventory = inventory(vec![("a", Entry::default()), ("b", declaring)]);
        inventory.record(1, Status::Failed("server `b` hangs".to_owned()));
        assert_eq!(inventory.excuses(Some("x")), ["server `b` hangs"]);
        assert_eq!(inventory.excuses(Some("y")).len(), 2);
    }

    #[test]
    fn a_missing_tool_is_blamed_on_the_server_with_its_prefix_and_otherwise_on_a_few() {
        let prefixed = Entry { prefix: Some("c.4".to_owned()), ..Entry::default() };
        let other = || Entry { prefix: Some(String::new()), ..Entry::default() };
        let entries = vec![("a", other()), ("b", other()), ("c", prefixed), ("d", other()), ("e", other())];
        let inventory = inventory(entries);
        (0..5).for_each(|index| inventory.record(index, Status::Failed(index.to_string())));
        assert_eq!(inventory.excuses(Some("c_4__x")), ["2"]);
        assert_eq!(inventory.excuses(Some("c_4_x")), ["0", "1", "2", "and 2 more"]);
        assert_eq!(inventory.excuses(None).len(), 4);
    }

    #[test]
    fn a_tool_that_the_filter_leaves_out_can_be_neither_seen_nor_reached() {
        let inventory = filtered(
            vec![("a", Entry::default()), ("b", Entry::default())],
            ToolFilter::new(&["a:same".to_owned(), "b:none".to_owned()]),
        );
        inventory.record(0, offer(&["same", "other"]));
        inventory.record(1, offer(&["same"]));
        let now = inventory.now();
        assert_eq!(now.tools.iter().map(|tool| tool.name.as_ref()).collect::<Vec<_>>(), ["same"]);
        assert_eq!(now.tool_routes["same"].server, 0);
        assert!(!now.tool_routes.contains_key("other") && now.left_out.contains("other"));
        assert_eq!(inventory.unused_patterns(), ["b:none"]);
    }

    #[test]
    fn servers_that_stay_keep_their_place_and_those_that_go_take_their_tools_along() {
        let define = |name: &str, entry: Entry| ServerDefinition { name: name.to_owned(), entry: Arc::new(entry) };
        let inventory = inventory(vec![("a", Entry::default()), ("b", Entry::default())]);
        inventory.record(0, offer(&["of_a"]));
        inventory.record(1, offer(&["of_b"]));
        let changed = Entry { image: Some("new".to_owned()), ..Entry::default() };
        replace(&inventory, vec![define("b", Entry::default()), define("a", changed)]);
        let now = inventory.now();
        assert_eq!(now.tools.iter().map(|tool| tool.name.as_ref()).collect::<Vec<_>>(), ["of_b"]);
        assert_eq!(now.tool_routes["of_b"].server, 1);
        assert_eq!(now.late.tools, 1);
        // What the old `a` says now does not count.
        inventory.record(0, offer(&["of_a"]));
        assert!(!inventory.now().tool_routes.contains_key("of_a"));
        inventory.record(2, offer(&["of_a"]));
        assert_eq!(inventory.now().tool_routes["of_a"].server, 2);
        assert_eq!(inventory.now().late.tools, 2, "clients have the lists without it");
    }

    #[test]
    fn addresses_match_templates() {
        assert!(matches_template("file:///{path}", "file:///a/b"));
        assert!(matches_template("db://{table}/rows/{id}{?full}", "db://t/rows/7"));
        assert!(!matches_template("db://{table}/rows/{id}", "db://t/cells/7"));
        assert!(!matches_template("plain://x", "plain://y"));
        assert!(!matches_template("broken://{x", "broken://{x"));
    }
}
