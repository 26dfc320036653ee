//! Files that can be neither renamed nor moved nor deleted.

use std::{fs, sync::Arc};

use super::*;
use crate::model::ManualClock;

#[tokio::test]
async fn a_file_that_withstands_being_done_is_told_and_holds_nothing_up() {
    let place = Place::new();
    // With what is put behind it, its name is too long.
    let long = "x".repeat(250);
    place.put(&long, "x1\n", 0);
    place.put("b", "b1\n", 1);
    let told = |life: &Life| {
        let [fault] = &life.faults[..] else { panic!("{:?}", life.faults) };
        assert!(fault.message.contains("/xxx") && fault.message.contains("it is not read again"), "{fault}");
    };
    let mut life = place.live(b"");
    life.take_durably().await;
    place.put("c", "c1\n", 2);
    life.take_durably().await;
    assert_eq!(life.texts(), ["x1", "b1", "c1"]);
    told(&life);
    let mut later = place.live(&life.token("c1"));
    place.put("d", "d1\n", 3);
    later.take_durably().await;
    assert_eq!(later.texts(), ["d1"]);
    told(&later);
    assert_eq!(place.names(), ["b.COMPLETED", "c.COMPLETED", "d.COMPLETED", &long]);
    // Somebody mends it.
    fs::rename(place.folder.path().join(&long), place.folder.path().join("short")).unwrap();
    let mut last = place.live(&later.token("d1"));
    last.take_durably().await;
    assert_eq!((last.texts(), last.faults.len()), (vec![], 0));
    assert_eq!(place.names(), ["b.COMPLETED", "c.COMPLETED", "d.COMPLETED", "short.COMPLETED"]);
}

#[tokio::test]
async fn a_file_that_withstood_is_done_a_minute_after_it_was_mended() {
    let mut place = Place::new();
    let clock = Arc::new(ManualClock::at(1_500_000_000_000));
    place.clock = clock.clone();
    let long = "x".repeat(250);
    place.put(&long, "x1\n", 0);
    let mut life = place.live(b"");
    life.take_durably().await;
    fs::rename(place.folder.path().join(&long), place.folder.path().join("short")).unwrap();
    life.take().await;
    assert_eq!((place.names(), life.faults.len()), (vec!["short".to_owned()], 1));
    clock.advance(60_000);
    life.take().await;
    assert_eq!((place.names(), life.faults.len()), (vec!["short.COMPLETED".to_owned()], 1));
    assert_eq!(life.texts(), ["x1"]);
}

#[tokio::test]
async fn a_folder_in_which_no_file_can_be_done_stands_still_after_a_while() {
    let place = Place::new();
    for n in 0..600 {
        place.put(&format!("{}{n:03}", "x".repeat(247)), format!("{n}\n"), n);
    }
    let mut life = place.live(b"");
    let is_told = |fault: &Fault| fault.message.contains("this file and 255 others can be neither");
    let read_on = async |life: &mut Life| {
        while !life.faults.iter().any(is_told) {
            let received = life.source.next().await.unwrap();
            life.note(received);
            life.durable.send_replace(life.taken.len() as u64);
        }
    };
    read_on(&mut life).await;
    let taken = life.taken.len();
    assert!((256..600).contains(&taken), "{taken}");
    // What is known to be done is not read again.
    let mut later = place.live(&life.taken[taken - 1].token);
    read_on(&mut later).await;
    let known: Vec<_> = life.texts().drain(..256).collect();
    assert!(later.texts().iter().all(|text| !known.contains(text)), "{:?}", later.texts());
}
