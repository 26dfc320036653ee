//! Random lives of a spool against a list.

use super::*;

/// What a spool is to those outside: a list, of which a beginning is durable.
struct Model {
    entries: Vec<Entry>,
    durable: usize,
    released: usize,
}

#[derive(Default)]
struct Met {
    full: u32,
    fenced: u32,
    zombies: u32,
    rolled: u32,
    torn: u32,
    released: u32,
}

/// What a power cut leaves of event files that were not durable.
fn tear(events: &[PathBuf], rng: &mut fastrand::Rng) {
    for event in events {
        match rng.u32(0..4) {
            0 => fs::remove_file(event).unwrap(),
            1 => OpenOptions::new().write(true).open(event).unwrap().set_len(0).unwrap(),
            _ => {}
        }
    }
}

fn play(seed: u64, met: &mut Met) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut spool = new(rng.u64(400..1_500));
    spool.settings.max_bytes = spool.scaled(rng.u64(4_000..12_000));
    let mut model = Model { entries: Vec::new(), durable: 0, released: 0 };
    let mut writer = spool.open().0;
    let mut zombies: Vec<Writer> = Vec::new();
    let mut reader = Reader::open(spool.path(), 0, &spool.link).unwrap();
    for step in 0..150 {
        let place = format!("seed {seed}, step {step}");
        match rng.u32(0..100) {
            0..40 => {
                let batch: Vec<_> = (0..rng.usize(1..4)).map(|_| entry(&"x".repeat(rng.usize(0..200)))).collect();
                let full = rng.u32(0..10) == 0;
                let after = full.then(|| rng.usize(0..700));
                match &mut writer.files {
                    Some(files) if rng.bool() => files.disk_full_after = after,
                    _ => writer.disk_full_after = after,
                }
                let files = spool.files().len();
                match writer.append(&batch) {
                    Ok(range) => {
                        assert_eq!(range.start, model.entries.len() as u64, "{place}");
                        model.entries.extend(batch);
                        met.rolled += u32::from(spool.files().len() > files);
                    }
                    Err(fault) => {
                        assert_eq!((fault.kind, fault.effect), (Fate::Full, Effect::NotDone), "{place}: {fault}");
                        met.full += 1;
                    }
                }
                writer.disk_full_after = None;
                if let Some(files) = &mut writer.files {
                    files.disk_full_after = None;
                }
                assert!(spool.used() <= spool.settings.max_bytes + 800, "{place}");
            }
            40..60 => {
                assert_eq!(writer.sync().unwrap(), model.entries.len() as u64, "{place}");
                model.durable = model.entries.len();
            }
            60..80 => {
                let end = spool.link.durable().borrow().unwrap().next;
                assert!(end as usize >= model.durable, "{place}");
                for frame in reader.read(rng.usize(1..9), rng.usize(0..999), end).unwrap() {
                    assert_eq!(frame.entry, model.entries[frame.sequence as usize], "{place}");
                }
            }
            80..86 => {
                let next = rng.u64(model.released as u64..=reader.next());
                met.released += u32::from(reader.release(next).unwrap() > 0);
                model.released = next as usize;
            }
            86..90 => {
                reader =
                    Reader::open(spool.path(), rng.u64(model.released as u64..=reader.next()), &spool.link).unwrap();
            }
            90..94 => {
                // Replaced while it lives; killed with a torn tail, if that was not synced.
                let old = std::mem::replace(&mut writer, spool.open().0);
                assert_eq!(writer.next(), model.entries.len() as u64, "{place}");
                model.durable = model.entries.len();
                zombies.push(old);
            }
            94..96 => {
                let last = spool.files().pop().unwrap();
                let len = fs::metadata(&last).unwrap().len();
                let synced = writer.synced;
                let cut = rng.u64(synced..=len);
                drop(writer);
                OpenOptions::new().write(true).open(&last).unwrap().set_len(cut).unwrap();
                tear(&spool.events(true), &mut rng);
                let next;
                (writer, next) = {
                    let (writer, recovered) = spool.open();
                    (writer, recovered.next as usize)
                };
                assert!(next >= model.durable && next <= model.entries.len(), "{place}");
                met.torn += u32::from(next < model.entries.len());
                model.entries.truncate(next);
                model.durable = next;
            }
            _ => {
                if let Some(zombie) = zombies.last_mut() {
                    met.zombies += u32::from(zombie.append(&[entry("zombie")]).is_ok());
                    if rng.bool() {
                        assert!(zombie.sync().is_err(), "{place}");
                        met.fenced += 1;
                        zombies.pop();
                    }
                }
            }
        }
    }
    writer.sync().unwrap();
    let frames = spool.read_from(model.released as u64).unwrap();
    let entries: Vec<_> = frames.into_iter().map(|frame| frame.entry).collect();
    assert_eq!(entries, model.entries[model.released..], "seed {seed}");
    if layout() != Layout::Packed {
        check_events(&spool, &model, seed);
    }
}

/// Other programs see the spool's events in its order, each whole, and nothing else.
fn check_events(spool: &Spool, model: &Model, seed: u64) {
    let seen: Vec<_> = spool.events(false).iter().map(|event| fs::read(event).unwrap()).collect();
    let first = chain::load(spool.path(), u64::MAX, |_| true).unwrap()[0].header.first as usize;
    let expected: Vec<_> = model.entries[first..].iter().map(|entry| entry.payload.to_vec()).collect();
    assert_eq!(seen, expected, "seed {seed}");
    assert_eq!(spool.open().1.foreign, Foreign::default(), "seed {seed}");
    assert_eq!(spool.events(true), [""; 0].map(PathBuf::from), "seed {seed}");
}

#[test]
fn any_life_of_a_spool_is_that_of_a_list() {
    let mut met = Met::default();
    (0..100).for_each(|seed| play(seed, &mut met));
    let met = [met.full, met.fenced, met.zombies, met.rolled, met.torn, met.released];
    assert!(met.iter().all(|count| *count > 20), "full, fenced, zombies, rolled, torn, released: {met:?}");
}
