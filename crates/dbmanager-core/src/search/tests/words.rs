//! Texts without a word to look for.

use super::world::*;
use crate::model::*;

async fn two_papers() -> World {
    let world = World::new(&["papers"]).await;
    let north = Document::new("a").text("north").metadata("year", 1990);
    world.write("papers", north).await;
    world
        .write("papers", Document::new("b").text("south"))
        .await;
    world
}

/// A store lists everything for a text without any term. For whoever has asked for words that
/// would be every document as a full hit.
#[tokio::test(start_paused = true)]
async fn signs_alone_find_nothing() {
    let world = two_papers().await;
    for text in ["?!", "🙂", "*"] {
        for query in [Query::metadata(text), Query::hybrid(text)] {
            let found = world.search(query).await;
            assert_eq!(ids(&found), Vec::<&str>::new(), "{text}");
            assert!(!found.degraded());
            let notes = &leg(&found, LegName::Metadata).notes;
            assert!(
                notes.iter().any(|note| note.contains("no term")),
                "{notes:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_text_at_all_lists_what_fulfils_the_filter() {
    let world = two_papers().await;
    let found = world
        .search(Query::metadata("").filter(field("year").eq(1990)))
        .await;
    assert_eq!(ids(&found), ["a"]);
}
