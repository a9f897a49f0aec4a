//! Why a socket may not be connected to, and what gives access.

use std::path::Path;

use super::Place;

/// What decides about access to a socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Access {
    /// The name of its group, or its number.
    group: String,
    /// Whether its group may write to it.
    is_for_group: bool,
    /// Whether this process is in the group.
    is_member: bool,
    /// Whether the user is in the group by now, as the system's files have it.
    is_listed: bool,
}

/// What to do about a socket that may not be connected to.
#[cfg(unix)]
pub(super) fn advice(place: &Place, socket: &Path) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(metadata) = std::fs::metadata(socket) else {
        let directory = socket.parent().unwrap_or(socket);
        return format!("ask for access to `{}`: you may not look into it", directory.display());
    };
    let groups = std::fs::read_to_string(place.root.join("etc/group")).unwrap_or_default();
    let (group, is_listed) = look_up(&groups, metadata.gid(), place.variable("USER").unwrap_or_default());
    let own = rustix::process::getegid().as_raw() == metadata.gid();
    let others = rustix::process::getgroups().unwrap_or_default();
    let is_member = own || others.iter().any(|group| group.as_raw() == metadata.gid());
    remedy(&Access { group, is_for_group: metadata.mode() & 0o020 != 0, is_member, is_listed }, socket)
}

#[cfg(not(unix))]
pub(super) fn advice(_place: &Place, socket: &Path) -> String {
    remedy(&Access::default(), socket)
}

/// The name of a group, and whether a user is among its members, in the format of `/etc/group`.
fn look_up(groups: &str, id: u32, user: &str) -> (String, bool) {
    let found = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, number, members) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        (number.parse() == Ok(id)).then_some((name, members))
    });
    match found {
        Some((name, members)) => (name.to_owned(), !user.is_empty() && members.split(',').any(|member| member == user)),
        None => (id.to_string(), false),
    }
}

fn remedy(access: &Access, socket: &Path) -> String {
    let Access { group, is_for_group, is_member, is_listed } = access;
    match (is_for_group, is_member, is_listed) {
        (true, false, true) => format!(
            "log out and in again, or run `newgrp {group}`: you are in the group `{group}` since after this session began"
        ),
        // Being in that group would be to be the administrator in all but name, and nothing else.
        (true, false, false) if group == "root" => {
            format!(
                "let the administrator give `{}` to a group that you are in, or use a rootless engine",
                socket.display()
            )
        }
        (true, false, false) => format!(
            "add yourself to the group `{group}` (`sudo usermod -aG {group} $USER`) and log in again, or use a rootless \
             engine"
        ),
        _ => format!("let the owner of `{}` give you access to it (`ls -l` shows who may)", socket.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: &str = "root:x:0:\ndocker:x:998:ada,bob\nbroken\nstaff:x:50:\n";

    #[test]
    fn a_group_and_its_members_are_found() {
        assert_eq!(look_up(GROUPS, 998, "bob"), ("docker".to_owned(), true));
        assert_eq!(look_up(GROUPS, 998, "bo"), ("docker".to_owned(), false));
        assert_eq!(look_up(GROUPS, 998, ""), ("docker".to_owned(), false));
        assert_eq!(look_up(GROUPS, 50, ""), ("staff".to_owned(), false));
        assert_eq!(look_up(GROUPS, 7, "bob"), ("7".to_owned(), false));
    }

    #[test]
    fn each_reason_has_its_remedy() {
        let socket = Path::new("/run/docker.sock");
        let docker = Access { group: "docker".to_owned(), is_for_group: true, ..Access::default() };
        assert!(remedy(&docker, socket).contains("`sudo usermod -aG docker $USER`"));
        let listed = Access { is_listed: true, ..docker.clone() };
        assert!(remedy(&listed, socket).contains("newgrp docker"));
        let private = Access { is_for_group: false, ..docker.clone() };
        assert!(remedy(&private, socket).contains("let the owner of `/run/docker.sock`"));
        let member = Access { is_member: true, ..docker.clone() };
        assert!(remedy(&member, socket).contains("let the owner of"));
        let root = Access { group: "root".to_owned(), ..docker };
        assert!(remedy(&root, socket).contains("rootless engine") && !remedy(&root, socket).contains("usermod"));
    }

    #[cfg(unix)]
    #[test]
    fn a_socket_that_cannot_be_looked_at_is_asked_for_by_its_directory() {
        let place = Place { home: None, variables: Default::default(), root: "/nowhere".into(), context: None };
        assert!(advice(&place, Path::new("/nowhere/run/docker.sock")).contains("`/nowhere/run`"));
    }
}
