//! Inspections and differences as text for people who need not know WebAssembly.

use std::fmt::Write as _;

use crate::inspect::{Change, Difference, Function, Import, Inspection, Risk, Standing, Status};
use crate::policy::effect::Effect;

/// How wide a text is, without its indentation.
const WIDTH: usize = 96;

/// All that is known of a component, the most important first.
///
/// `granted` is what it is granted and by what; `left` is what the policies leave of that and how many files they are,
/// if there are any.
pub(super) fn text(
    name: &str,
    from: &str,
    of: &Inspection,
    (standing, granted_by): (&Standing, &str),
    left: Option<(&Effect, usize)>,
) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(out, "{name} ({from})");
    let _ = writeln!(out, "  size      {}", size(of.bytes as u64));
    let _ = writeln!(out, "  sha256    {}", of.digest);
    let _ = writeln!(out, "  made of   {}", inside(of));
    worlds(&mut out, of);
    for warning in &of.warnings {
        paragraph(&mut out, "  WARNING   ", warning);
    }

    out.push_str("\nWhat it could reach: its imports, and nothing else. Nothing here was run.\n");
    if of.imports.is_empty() {
        out.push_str("  nothing at all\n");
    }
    let mut ordered: Vec<(&Import, Status)> =
        of.imports.iter().zip(&standing.imports).map(|(import, (_, status))| (import, *status)).collect();
    ordered.sort_by_key(|(import, _)| std::cmp::Reverse(import.risk));
    for (import, status) in ordered.iter().filter(|(import, _)| import.risk != Risk::None) {
        let _ = writeln!(out, "\n  {:8}{}  [{}]", import.risk.name(), import.name, words(*status));
        paragraph(&mut out, "          ", &import.capability);
        functions(&mut out, &import.functions);
    }
    let free: Vec<&str> = ordered
        .iter()
        .filter(|(import, _)| import.risk == Risk::None)
        .map(|(import, _)| import.name.rsplit('/').next().unwrap_or(&import.name))
        .collect();
    if !free.is_empty() {
        out.push('\n');
        paragraph(
            &mut out,
            "  none    ",
            &format!("{}: names of types and sealed values, which reach nothing", free.join(", ")),
        );
    }
    let wasi = of.imports.iter().any(|import| import.name.starts_with("wasi:"));
    out.push('\n');
    paragraph(
        &mut out,
        "  ",
        match wasi {
            true => {
                "It imports WASI, the system interface of WebAssembly, with the interfaces that stand above and no other: what \
                 is granted of them the gateway links, without files, network, environment or arguments behind it. A provisioner \
                 needs none of it."
            }
            false => {
                "It imports no files, no network, no environment, no clock, no random numbers and no other program: it \
                  cannot reach them, whatever its code does. The gateway links no interface of WASI for it."
            }
        },
    );

    grants(&mut out, of, standing, granted_by);
    if let Some((effect, files)) = left {
        policies(&mut out, effect, files);
    }

    out.push_str("\nWhat it offers to the gateway: its exports\n");
    if of.exports.is_empty() {
        out.push_str("  nothing\n");
    }
    for export in &of.exports {
        let _ = writeln!(out, "  {}", export.name);
        functions(&mut out, &export.functions);
    }
    claims(&mut out, of);
    out
}

fn worlds(out: &mut String, of: &Inspection) {
    let fitting: Vec<&str> = of.worlds.iter().filter(|fit| fit.fits).map(|fit| fit.world.as_str()).collect();
    if !fitting.is_empty() {
        let _ = writeln!(out, "  fits      {}", fitting.join(", "));
        return;
    }
    match &of.wit {
        Err(reason) => paragraph(out, "  fits      unknown: ", reason),
        Ok(_) => {
            let so = if of.is_called() { "" } else { ", so it cannot be used as a provisioner" };
            let _ = writeln!(out, "  fits      no world of the contract{so}:");
            // The one that it is nearest to. What is wrong with the others is mostly the same.
            let nearest = of.worlds.iter().min_by_key(|fit| fit.problems.len());
            for (world, problem) in nearest.iter().flat_map(|fit| fit.problems.iter().map(|it| (&fit.world, it))) {
                paragraph(out, &format!("            {world}: "), problem);
            }
        }
    }
}

fn grants(out: &mut String, of: &Inspection, standing: &Standing, granted_by: &str) {
    let _ = writeln!(out, "\nWhat it is granted (by {granted_by})");
    let mut line = |name: &str, items: &[String], otherwise: &str| {
        let text = if items.is_empty() { otherwise.to_owned() } else { items.join(", ") };
        if !text.is_empty() {
            paragraph(out, name, &text);
        }
    };
    line("  granted             ", &standing.granted, "nothing");
    line("  wanted, not granted ", &standing.missing, "");
    line("  granted, not wanted ", &standing.unused, "");
    line(
        "  beyond the catalog  ",
        &standing.beyond_the_entry,
        "nothing: it stays within what each catalog entry allows",
    );
    let verdict = if !of.is_called() {
        "no grant makes it a provisioner: it exports nothing that the gateway would call".to_owned()
    } else if standing.is_hopeless() {
        "no grant makes it run: it imports what this gateway does not have".to_owned()
    } else if standing.can_run {
        "with these grants it can run".to_owned()
    } else {
        format!("it will not run; to allow it add `--grant {}`", standing.missing.join(","))
    };
    // Not broken into lines: what is in it is to be copied.
    let _ = writeln!(out, "  so                  {verdict}");
}

fn policies(out: &mut String, effect: &Effect, files: usize) {
    let count = if files == 1 {
        "the policy file that holds here".to_owned()
    } else {
        format!("the {files} policy files that hold here")
    };
    let _ = writeln!(out, "\nWhat is left of that by {count}");
    if effect.is_nothing() {
        out.push_str("  all of it\n");
        return;
    }
    if effect.denied.is_none() {
        paragraph(
            out,
            "  left                ",
            if effect.left.is_empty() { "nothing".to_owned() } else { effect.left.join(", ") }.as_str(),
        );
    }
    for line in effect.lines() {
        paragraph(out, "  by a policy         ", &line);
    }
}

fn claims(out: &mut String, of: &Inspection) {
    out.push_str("\nWhat the file says about itself (claims: whoever made it could write anything)\n");
    let mut any = false;
    let named = of.claims.name.iter().map(|name| ("name".to_owned(), name.clone()));
    let texts = of.claims.texts.iter().map(|(kind, text)| (kind.clone(), text.clone()));
    let made = of.claims.producers.iter().map(|made| (made.part.clone(), format!("{} {}", made.name, made.version)));
    for (kind, text) in named.chain(texts).chain(made) {
        any = true;
        paragraph(out, &format!("  {kind:14}"), text.trim_end());
    }
    if !any {
        out.push_str("  nothing\n");
    }
}

fn functions(out: &mut String, functions: &[Function]) {
    let width = functions.iter().map(|function| function.name.chars().count()).max().unwrap_or_default().min(28);
    for function in functions {
        let first = function.documentation.as_deref().map(first_sentence).unwrap_or_default();
        let start = format!("            {:width$}  ", function.name);
        if first.is_empty() {
            let _ = writeln!(out, "{}", start.trim_end());
        } else {
            paragraph(out, &start, &first);
        }
    }
}

/// What one version of a component has that another has not.
pub(super) fn difference(first: (&str, &Inspection), second: (&str, &Inspection), of: &Difference) -> String {
    let mut out = String::new();
    let _ =
        writeln!(out, "from {} (sha256:{}, {})", first.0, super::short(&first.1.digest), size(first.1.bytes as u64));
    let _ =
        writeln!(out, "to   {} (sha256:{}, {})", second.0, super::short(&second.1.digest), size(second.1.bytes as u64));
    if of.same_bytes {
        out.push_str("\nthey are the same, byte for byte\n");
        return out;
    }
    out.push('\n');
    let mut section = |title: &str, changes: &[Change]| {
        if changes.is_empty() {
            return;
        }
        let _ = writeln!(out, "{title}");
        let mut changes = changes.iter().peekable();
        while let Some(change) = changes.next() {
            let risk = change.risk.map(|risk| format!("{:8}", risk.name())).unwrap_or_default();
            let mut function = change.function.as_ref().map(|function| format!(" {function}")).unwrap_or_default();
            // Names of types come by the dozen, and reach nothing.
            while type_of(change).is_some()
                && change.types.is_none()
                && let Some(more) = changes.next_if(|more| more.name == change.name && type_of(more).is_some())
            {
                function += &format!(", {}", type_of(more).unwrap_or_default());
            }
            paragraph(&mut out, &format!("  {risk}"), &format!("{}{function}", change.name));
            if let Some((before, after)) = &change.types {
                paragraph(&mut out, "            was ", before);
                paragraph(&mut out, "            is  ", after);
            }
        }
    };
    section("wants more", &of.wants_more);
    section("wants the same with other types", &of.wants_changed);
    section("wants no longer", &of.wants_less);
    section("offers more", &of.offers_more);
    section("offers the same with other types", &of.offers_changed);
    section("offers no longer", &of.offers_less);
    if !of.fits_no_longer.is_empty() {
        let _ = writeln!(out, "fits no longer  {}", of.fits_no_longer.join(", "));
    }
    if !of.fits_now.is_empty() {
        let _ = writeln!(out, "fits now        {}", of.fits_now.join(", "));
    }
    if !of.wants_something_new() {
        out.push_str("it wants nothing new; its code is different\n");
    }
    out
}

/// The name of the type that a change is about, if it is about one.
fn type_of(change: &Change) -> Option<&str> {
    change.function.as_deref()?.strip_prefix("type ")
}

fn inside(of: &Inspection) -> String {
    let inside = &of.inside;
    let count = |number: u32, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let mut parts = vec![
        count(inside.modules, "module"),
        count(inside.functions, "function"),
        format!("{} of code", size(inside.code_bytes)),
        format!("{} of data", size(inside.data_bytes)),
    ];
    if inside.components > 0 {
        parts.insert(0, count(inside.components, "component"));
    }
    parts.push(format!("begins with {} of memory", size(inside.memory_bytes)));
    parts.join(", ")
}

fn words(status: Status) -> &'static str {
    match status {
        Status::Free => "needs no grant",
        Status::Granted => "granted",
        Status::NotGranted => "not granted",
        Status::NotOffered => "not offered by this gateway",
    }
}

pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// The first sentence of a documentation text.
fn first_sentence(text: &str) -> String {
    let paragraph = text.split("\n\n").next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    match paragraph.split_once(". ") {
        Some((first, _)) => format!("{first}."),
        None => paragraph,
    }
}

/// A text after `start`, broken into lines that begin below its first.
fn paragraph(out: &mut String, start: &str, text: &str) {
    let indentation = start.chars().count();
    let mut line = start.to_owned();
    let mut length = 0;
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if length > 0 && length + 1 + width > WIDTH.saturating_sub(indentation).max(40) {
            let _ = writeln!(out, "{}", line.trim_end());
            line = " ".repeat(indentation);
            length = 0;
        }
        if length > 0 {
            line.push(' ');
            length += 1;
        }
        line.push_str(word);
        length += width;
    }
    let _ = writeln!(out, "{}", line.trim_end());
}
