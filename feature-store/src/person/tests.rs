use proptest::prelude::*;

use super::*;

/// Who belongs to whom: each id once. The time of a link is its place.
type Pairs<'a> = [(&'a str, &'a str)];

/// What is stored about `id` when these are the links, and `claims` were made and did not win.
fn stored(id: &str, links: &Pairs<'_>, claims: &Pairs<'_>) -> Links {
    let own = (0..).zip(links).find(|(_, (alias, _))| *alias == id);
    let belongs_to = own.map(|(at, (_, person))| IdentityRecord { person_id: (*person).to_owned(), linked_at_us: at });
    let of = |(_, person): &&(&str, &str)| *person == id;
    let claims = links.iter().rev().filter(of).chain(claims.iter().filter(of)).map(|(alias, _)| (*alias).to_owned());
    Links { belongs_to, claims: claims.take(views::ALIASES_MAX).collect() }
}

/// The person of `id`, and in how many reads it is found.
fn find(id: &str, links: &Pairs<'_>, claims: &Pairs<'_>) -> (Person, usize) {
    let (mut relatives, mut reads) = (Relatives::of(id), 0);
    loop {
        let wanted = relatives.wanted();
        if wanted.is_empty() {
            return (relatives.person(), reads);
        }
        reads += 1;
        for id in wanted {
            let links = stored(&id, links, claims);
            assert!(!relatives.known.contains_key(&id), "{id} is read twice");
            relatives.insert(id, links);
        }
        assert!(relatives.known.len() <= READ_IDS_MAX);
    }
}

#[track_caller]
fn check(id: &str, links: &Pairs<'_>, person: &str, ids: &[&str], reads: usize) {
    let (found, took) = find(id, links, &[]);
    let found_ids: Vec<_> = found.ids.iter().map(|id| id.id.as_str()).collect();
    assert_eq!((found.person_id.as_str(), &found_ids[..], took), (person, ids, reads), "{id}");
}

#[test]
fn who_was_never_linked_is_one_id_and_one_read() {
    check("ada", &[], "ada", &["ada"], 1);
    check("ada", &[("a1", "bob")], "ada", &["ada"], 1);
}

#[test]
fn a_link_costs_one_more_read_from_either_end() {
    let links = [("a1", "ada")];
    check("ada", &links, "ada", &["ada", "a1"], 2);
    check("a1", &links, "ada", &["ada", "a1"], 2);
    let (person, _) = find("a1", &links, &[]);
    let since: Vec<_> = person.ids.iter().map(|id| id.linked_at_us).collect();
    assert_eq!(since, [None, Some(0)]);
}

#[test]
fn several_devices_are_one_person_the_latest_first() {
    let links = [("a1", "ada"), ("a2", "ada"), ("b1", "bob")];
    check("ada", &links, "ada", &["ada", "a2", "a1"], 2);
    check("a1", &links, "ada", &["ada", "a2", "a1"], 3);
    check("bob", &links, "bob", &["bob", "b1"], 2);
}

#[test]
fn a_claim_that_the_other_id_does_not_confirm_says_nothing() {
    let links = [("device", "ada")];
    let claims = [("device", "bob")];
    let (bob, _) = find("bob", &links, &claims);
    assert_eq!((bob.person_id.as_str(), bob.ids.len()), ("bob", 1));
    let (device, _) = find("device", &links, &claims);
    assert_eq!(device.person_id, "ada");
}

#[test]
fn a_person_who_becomes_another_takes_everything_along() {
    let links = [("a1", "ada"), ("ada", "ada@new"), ("a2", "ada@new")];
    for id in ["a1", "ada", "a2", "ada@new"] {
        let (person, _) = find(id, &links, &[]);
        let ids: Vec<_> = person.ids.iter().map(|id| id.id.as_str()).collect();
        assert_eq!((person.person_id.as_str(), ids), ("ada@new", vec!["ada@new", "a2", "ada", "a1"]), "{id}");
    }
}

#[test]
fn a_circle_is_its_least_id() {
    let circle = [("b", "c"), ("c", "a"), ("a", "b"), ("x", "c")];
    for id in ["a", "b", "c", "x"] {
        let (person, _) = find(id, &circle, &[]);
        let mut ids: Vec<_> = person.ids.iter().map(|id| id.id.as_str()).collect();
        ids.sort_unstable();
        assert_eq!((person.person_id.as_str(), ids), ("a", vec!["a", "b", "c", "x"]), "{id}");
    }
}

#[test]
fn links_are_followed_so_far_and_no_farther() {
    let chain = [("0", "1"), ("1", "2"), ("2", "3"), ("3", "4"), ("4", "5")];
    check("1", &chain, "5", &["5", "4", "3", "2", "1"], 5);
    // One link too far from its person: it stands with the id that it reaches, which stands elsewhere.
    check("0", &chain, "4", &["0"], 5);
    check("5", &chain, "5", &["5", "4", "3", "2", "1"], 5);
}

#[test]
fn so_many_ids_are_known_and_the_one_asked_for_is_among_them() {
    let devices: Vec<String> = (0..100).map(|n| format!("d{n:03}")).collect();
    let links: Vec<_> = devices.iter().map(|device| (device.as_str(), "ada")).collect();
    let (ada, reads) = find("ada", &links, &[]);
    assert_eq!((ada.ids.len(), ada.ids[1].id.as_str(), reads), (PERSON_IDS_MAX, "d099", 2));
    let (first, _) = find("d000", &links, &[]);
    assert_eq!((first.person_id.as_str(), first.ids.len()), ("ada", PERSON_IDS_MAX));
    assert_eq!(first.ids.last().map(|id| id.id.as_str()), Some("d000"));
}

/// The plainest way: step by step, with everything at hand.
fn plain_person(id: &str, links: &Pairs<'_>) -> String {
    let mut path = vec![id];
    while path.len() <= HOPS_MAX {
        let last = path[path.len() - 1];
        let Some((_, parent)) = links.iter().find(|(alias, _)| *alias == last) else { break };
        if let Some(at) = path.iter().position(|passed| passed == parent) {
            return path[at..].iter().min().unwrap().to_string();
        }
        path.push(parent);
    }
    path[path.len() - 1].to_owned()
}

proptest! {
    /// Whatever is linked to whatever: the person is the plain one, its ids are those that have the same one, and the read
    /// comes to an end.
    #[test]
    fn ids_with_one_person_are_the_ids_of_that_person(
        parents in prop::collection::vec(prop::option::of(0..12_usize), 12),
        claims in prop::collection::vec((0..12_usize, 0..12_usize), 0..12),
    ) {
        let names: Vec<String> = (0..12).map(|n| format!("i{n:02}")).collect();
        let links: Vec<(&str, &str)> = parents
            .iter()
            .enumerate()
            .filter_map(|(id, parent)| Some((id, (*parent)?)))
            .filter(|(id, parent)| id != parent)
            .map(|(id, parent)| (names[id].as_str(), names[parent].as_str()))
            .collect();
        let claims: Vec<(&str, &str)> =
            claims.iter().map(|&(id, of)| (names[id].as_str(), names[of].as_str())).collect();
        for id in &names {
            let (person, _) = find(id, &links, &claims);
            prop_assert_eq!(&person.person_id, &plain_person(id, &links));
            let mut found: Vec<_> = person.ids.iter().map(|id| id.id.clone()).collect();
            found.sort_unstable();
            let expected: Vec<_> =
                names.iter().filter(|other| plain_person(other, &links) == person.person_id).cloned().collect();
            prop_assert_eq!(found, expected, "{}", id);
        }
    }
}
