use millrace_feature_store::views::AUTHOR_POSTS;

use super::world::{HOUR_US, NOW_US, World};
use crate::{AuthorQuery, ErrorKind};

async fn page(world: &World, limit: usize, cursor: Option<String>) -> (Vec<String>, Option<String>) {
    let page = world.ranker.author(AuthorQuery { author: "bob".to_owned(), limit, cursor }).await.unwrap();
    (page.items.into_iter().map(|item| item.post_id).collect(), page.next_cursor)
}

#[tokio::test]
async fn pages_tile_the_list_while_posts_arrive() {
    let mut world = World::new().await;
    for nth in 0..250 {
        // Ten posts share each time.
        world.post("bob", &format!("b{nth:03}"), NOW_US - nth / 10 * HOUR_US).await;
    }
    for nth in (0..250).filter(|nth| nth % 3 == 0 || (50..120).contains(nth)) {
        world.record("bob", &format!("b{nth:03}"), NOW_US, true).await;
    }
    world.insert(AUTHOR_POSTS, "bob", "taken", NOW_US - 3 * HOUR_US).await;
    world.record("dan", "taken", NOW_US, false).await;

    let expected: Vec<String> =
        (0..250).filter(|n| n % 3 != 0 && !(50..120).contains(n)).map(|n| format!("b{n:03}")).collect();
    for limit in [1, 7, 100] {
        let (mut got, mut cursor) = page(&world, limit, None).await;
        while let Some(next) = cursor {
            world.post("bob", &format!("z{}-{limit}", got.len()), NOW_US + HOUR_US).await;
            let (items, after) = page(&world, limit, Some(next)).await;
            assert!(items.len() == limit || after.is_none(), "a page is full unless it is the last");
            got.extend(items);
            cursor = after;
        }
        assert_eq!(got.into_iter().filter(|id| id.starts_with('b')).collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn a_page_that_ends_with_the_list_has_no_cursor() {
    let mut world = World::new().await;
    for nth in 0..4 {
        world.post("bob", &format!("b{nth}"), NOW_US - nth * HOUR_US).await;
    }
    let (items, cursor) = page(&world, 2, None).await;
    assert_eq!(items, ["b0", "b1"]);
    let (items, cursor) = page(&world, 2, cursor).await;
    assert_eq!((items, cursor), (vec!["b2".to_owned(), "b3".to_owned()], None));
}

#[tokio::test]
async fn a_cursor_is_for_one_author() {
    let mut world = World::new().await;
    for nth in 0..4 {
        world.post("bob", &format!("b{nth}"), NOW_US - nth * HOUR_US).await;
    }
    let cursor = page(&world, 2, None).await.1;
    for (author, cursor) in [("cid", cursor), ("bob", Some("AAAA".to_owned()))] {
        let query = AuthorQuery { author: author.to_owned(), limit: 2, cursor };
        let error = world.ranker.author(query).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, "invalid_cursor"));
    }
}
