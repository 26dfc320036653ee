//! What is wrong with a spool's keys.

use super::{
    complaints::{check, check_whole},
    *,
};

#[test]
fn a_spools_layout_and_its_names_fit_together() {
    let spool = "\"d/spool\"";
    check(
        spool,
        "\"d/spool\", layout = \"file_per_event\"",
        &[
            "8:38: collector.c.spool.layout: \"file_per_event\" is unknown; did you mean \"file-per-event\"? allowed: \"packed\", \"file-per-event\"",
        ],
    );
    let only = "is only for layout = \"file-per-event\": a packed spool has no file for an event";
    let name = format!("\"d/spool\", file_name = \"{}\"", naming::DEFAULT);
    check(spool, &name, &[&format!("8:41: collector.c.spool.file_name: {only}")]);
    let forms = naming::FORMS;
    check(
        spool,
        "\"d/spool\", layout = \"file-per-event\", file_name = \"x_%Y%d.json\"",
        &[&format!("8:68: collector.c.spool.file_name: \"x_%Y%d.json\": %d does not belong there, allowed: {forms}")],
    );
}

#[test]
fn a_spool_has_room_for_its_files_and_events() {
    check(
        "\"d/spool\"",
        "\"d/spool\", max_bytes = \"31MiB\"",
        &["8:1: collector.c.spool: max_bytes (31MiB) must be at least twice roll_bytes (16MiB)"],
    );
    check(
        "localhost:1/s\"",
        "localhost:1/s\", max_event = \"3GiB\"",
        &["7:51: collector.c.sse.max_event: \"3GiB\" is out of bounds, allowed: from \"1KiB\" to \"64MiB\""],
    );
    let event = small("localhost:1/s\"", "localhost:1/s\", max_event = \"8MiB\"");
    check_whole(
        &event.replace("\"d/spool\"", "\"d/spool\", max_bytes = \"4MiB\", roll_bytes = \"1MiB\""),
        &["6:12: collector.c: an event may be larger (max_event = 8MiB) than the whole spool (spool.max_bytes = 4MiB)"],
    );
}
