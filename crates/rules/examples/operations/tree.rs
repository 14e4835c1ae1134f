//! The paths as a tree, and its text.

use std::collections::{BTreeMap, BTreeSet};

/// A method and a path, and what they call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) name: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) scope: char,
    effect: char,
    cost: char,
    dangers: String,
    /// The date it ends, or nothing.
    pub(crate) deprecated: Option<String>,
    pub(crate) note: String,
    /// The fields of its answer that are secret.
    pub(crate) secrets: BTreeSet<String>,
}

impl Call {
    pub(crate) fn new(path: String, name: String, method: &str) -> Self {
        let scope = match path.split('/').nth(1) {
            Some("accounts") if path.contains("{account_id}") => 'a',
            Some("zones") if path.contains("{zone_id}") => 'z',
            Some("user") => 'u',
            _ => 'n',
        };
        let effect = if method == "GET" { 'r' } else { 'w' };
        Self {
            path,
            name,
            aliases: Vec::new(),
            scope,
            effect,
            cost: '-',
            dangers: String::new(),
            deprecated: None,
            note: String::new(),
            secrets: BTreeSet::new(),
        }
    }

    /// Takes one of the overlay's tags.
    pub(crate) fn tag(&mut self, tag: &str) -> Result<(), String> {
        match tag {
            "effect:read" => self.effect = 'r',
            "effect:write" => self.effect = 'w',
            "effect:depends-on-body" => self.effect = 'b',
            "cost:usage" => self.cost = 'u',
            "cost:recurring" => self.cost = 'r',
            "cost:purchase" => self.cost = 'p',
            "danger:audit" => self.dangers.push('a'),
            "danger:exfiltration" => self.dangers.push('x'),
            "danger:identity" => self.dangers.push('i'),
            "danger:irreversible" => self.dangers.push('d'),
            "danger:outage" => self.dangers.push('o'),
            "danger:payment" => self.dangers.push('p'),
            other => return Err(format!("there is no tag {other}")),
        }
        Ok(())
    }

    fn write(&self, method: &str, names: &[String], table: &mut String) {
        let dangers = if self.dangers.is_empty() { "-" } else { &self.dangers };
        let Self { name, scope, effect, cost, .. } = self;
        table.push_str(&format!(">{method} {name} {scope}{effect}{cost} {dangers}"));
        match self.deprecated.as_deref() {
            Some("") => table.push_str(" old"),
            Some(until) => table.push_str(&format!(" old={until}")),
            None => {}
        }
        let own = parameters(&self.path);
        if own != names {
            table.push_str(&format!(" names={}", own.join(",")));
        }
        if !self.aliases.is_empty() {
            table.push_str(&format!(" aka={}", self.aliases.join(",")));
        }
        if !self.secrets.is_empty() {
            let secrets: Vec<&str> = self.secrets.iter().map(String::as_str).collect();
            table.push_str(&format!(" hides={}", secrets.join(",")));
        }
        if !self.note.is_empty() {
            table.push_str(&format!("\t{}", self.note));
        }
        table.push('\n');
    }
}

/// A place of the tree: what may follow, and what may be called here. Literals stand before the
/// parameter.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    children: BTreeMap<(bool, String), Self>,
    calls: BTreeMap<String, Call>,
    /// The names of the parameters of its own segment, as the first call has them.
    names: Vec<String>,
    shape: Option<String>,
}

impl Tree {
    /// Adds a call.
    pub(crate) fn add(&mut self, method: String, call: Call) -> Result<(), String> {
        let path = call.path.clone();
        let mut tree = self;
        for segment in path.split('/').skip(1) {
            let key = (segment.contains('{'), blank(segment));
            let is_new = !tree.children.contains_key(&key);
            tree = tree.children.entry(key).or_default();
            if is_new {
                tree.names = parameters(segment);
            }
        }
        match tree.calls.insert(method, call) {
            Some(other) => Err(format!("{path} stands twice, once as {}", other.name)),
            None => Ok(()),
        }
    }

    /// Gives the parameter at the end of a blanked path a shape.
    pub(crate) fn shape(&mut self, path: &str, shape: &str) -> Option<()> {
        let mut tree = self;
        for segment in path.split('/').skip(1) {
            tree = tree.children.get_mut(&(segment.contains('{'), segment.to_owned()))?;
        }
        let is_first = path.ends_with("/{}") && tree.shape.replace(shape.to_owned()).is_none();
        is_first.then_some(())
    }

    /// Writes what stands below, one tab deeper for each segment.
    pub(crate) fn write(&self, table: &mut String) {
        self.write_at(0, &[], table);
    }

    fn write_at(&self, depth: usize, names: &[String], table: &mut String) {
        for (method, call) in &self.calls {
            table.push_str(&"\t".repeat(depth));
            call.write(method, names, table);
        }
        for ((_, segment), child) in &self.children {
            table.push_str(&"\t".repeat(depth));
            let mut named = segment.clone();
            for name in &child.names {
                let shape = child.shape.as_ref().map(|shape| format!(":{shape}"));
                named =
                    named.replacen("{}", &format!("{{{name}{}}}", shape.unwrap_or_default()), 1);
            }
            table.push_str(&named);
            table.push('\n');
            let names: Vec<String> = names.iter().chain(&child.names).cloned().collect();
            child.write_at(depth + 1, &names, table);
        }
    }
}

/// The text without the names of its parameters: `/zones/{}`.
pub(crate) fn blank(text: &str) -> String {
    let mut blank = String::new();
    let mut is_name = false;
    for letter in text.chars() {
        is_name &= letter != '}';
        if !is_name {
            blank.push(letter);
        }
        is_name |= letter == '{';
    }
    blank
}

/// The names of the parameters.
fn parameters(text: &str) -> Vec<String> {
    let names = text.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    names.map(str::to_owned).collect()
}
