//! The keys of a collector's source: `[collector.<name>.sse]`, `.poll` or `.folder`.

use std::time::Duration;

use super::{build, lifted};
use crate::{
    collect::{
        FolderSettings, PollSettings, SourceSettings, SseSettings,
        folder::{Done, Order, RecordOf},
        poll::{MAX_KEPT, Next, Reading},
    },
    config::{
        complaint::At,
        form::STRING,
        quantity::{DAY, HOUR, KIB, MIB, MILLISECOND, MINUTE, SECOND, show_duration},
        section::Section,
        values::{self, services},
    },
    web::{Header, Secret},
};

/// What a collector's source may be.
const ONE: &str = "a collector has one source, allowed: either sse = { url = \"…\" }, poll = { url = \"…\" } or folder = { path = \"…\" }";

/// The source of a collector's section.
pub(super) fn source(section: &mut Section<'_>) -> Option<SourceSettings> {
    let stream = section.key("sse", "a source that is a server of events: sse = { url = \"…\" }").section().optional();
    let stream = stream.map(|found| found.map(|at| sse(at.value).map(SourceSettings::Sse)));
    let api = section.key("poll", "a source that is asked again and again: poll = { url = \"…\", period = \"…\" }");
    let api =
        api.section().optional().map(|found| found.map(|at| poll(at.value).map(Box::new).map(SourceSettings::Poll)));
    let files = section.key("folder", "a source that is a folder of files: folder = { path = \"…\" }");
    let files = files.section().optional();
    let files = files.map(|found| found.map(|at| folder(at.value).map(Box::new).map(SourceSettings::Folder)));
    section.one_of(["sse", "poll", "folder"], ONE);
    match (stream?, api?, files?) {
        (Some(source), None, None) | (None, Some(source), None) | (None, None, Some(source)) => source,
        _ => None,
    }
}

fn folder(mut section: Section<'_>) -> Option<FolderSettings> {
    let path = section.key("path", "the folder that other programs put whole files into");
    let path = path.parse(values::LOCAL_PATH, values::local_path).required();
    let sub_folders = section.key("sub_folders", "whether folders in it are read too").boolean().or(false);
    let include = section.key("include", "only files whose name this regular expression matches whole");
    let include = include.parse(services::REGEX, services::regex).optional();
    let ignore = section.key("ignore", "no files whose name this regular expression matches whole");
    let ignore = ignore.parse(services::REGEX, services::regex).optional();
    let orders = [("oldest", Order::Oldest), ("youngest", Order::Youngest), ("name", Order::Name)];
    let order = section.key("order", "which file comes first; of equally old ones by name").word(&orders);
    let order = order.or(Order::Oldest);
    let record = section.key("record", "what an event is: a line, or a whole file");
    let is_line = record.word(&[("line", true), ("file", false)]).or(true);
    let one_line = section.key("one_line", "with record = \"file\": whether JSON goes onto one line");
    let one_line = one_line.boolean().optional();
    let words = [("rename", "rename"), ("delete", "delete"), ("move", "move")];
    let done = section.key("done", "what becomes of a file whose events are durable").word(&words).or("rename");
    let suffix =
        section.key("suffix", "what is put behind its name, with done = \"rename\"; by default \".COMPLETED\"");
    let suffix = suffix.parse(services::SUFFIX, services::suffix).optional();
    let target = section.key("done_folder", "where it is moved to, with done = \"move\": on the same file system");
    let target = target.parse(values::LOCAL_PATH, values::local_path).optional();
    let settle = section.key("settle", "a file is taken once it has not been changed for so long");
    let settle = settle.duration(Duration::ZERO..=DAY).or(SECOND);
    let look = section.key("look", "how often the folder is looked at when there was nothing");
    let look = look.duration(10 * MILLISECOND..=HOUR).or(500 * MILLISECOND);
    let max_event = section.key("max_event", "a larger event is kept as a file and reported as a dead letter");
    let max_event = max_event.size(KIB..=64 * MIB).or(MIB);

    if let (Some(At { value: true, .. }), Some(Some(one_line))) = (&is_line, &one_line) {
        section.say_at(&one_line.place, "is only for record = \"file\": a line is one");
    }
    let done = build(|| {
        let (done, suffix, target) = (done?, suffix?, target?);
        if let Some(suffix) = suffix.as_ref().filter(|_| done.value != "rename") {
            section.say_at(&suffix.place, "is only for done = \"rename\"");
            return None;
        }
        if let Some(target) = target.as_ref().filter(|_| done.value != "move") {
            section.say_at(&target.place, "is only for done = \"move\"");
            return None;
        }
        Some(match (done.value, target) {
            ("delete", _) => Done::Delete,
            ("rename", _) => Done::Rename(suffix.map_or(".COMPLETED".to_owned(), |at| at.value)),
            (_, Some(target)) => Done::Move(target.value),
            (_, None) => {
                section.say_at(&done.place, "wants to know where to: done_folder = \"…\"");
                return None;
            }
        })
    });
    section.finish();
    let record = match (is_line?.value, one_line?) {
        (true, _) => RecordOf::Line,
        (false, one_line) => RecordOf::File { one_line: one_line.is_none_or(|at| at.value) },
    };
    Some(FolderSettings {
        path: path?.value,
        sub_folders: sub_folders?.value,
        include: include?.map(|at| at.value),
        ignore: ignore?.map(|at| at.value),
        order: order?.value,
        record,
        done: done?,
        settle: settle?.value,
        look: look?.value,
        max_event: max_event?.value,
    })
}

fn sse(mut section: Section<'_>) -> Option<SseSettings> {
    let url = section.key("url", "where the stream is");
    let url = url.parse(values::URL, values::url).required();
    let contact = section.key("contact", "an e-mail address or a URL that the source's operators can reach");
    let written = contact.parse(values::CONTACT, values::contact).or(None);
    let reconnect = section.key("reconnect_after", "open the next connection this long after the last one");
    let reconnect = reconnect.duration(100 * MILLISECOND..=DAY).or(14 * MINUTE);
    let silence = section.key("silence", "a connection without a byte for this long is given up");
    let silence = silence.duration(100 * MILLISECOND..=HOUR).or(30 * SECOND);
    let max_event = section.key("max_event", "a larger event is kept as a file and reported as a dead letter");
    let max_event = max_event.size(KIB..=64 * MIB).or(MIB);
    a_contact_for_wikimedia(&section, url.as_ref(), written.as_ref());
    section.finish();
    Some(SseSettings {
        url: url?.value,
        contact: written?.value,
        reconnect_after: reconnect?.value,
        silence: silence?.value,
        max_event: max_event?.value,
    })
}

fn a_contact_for_wikimedia(section: &Section<'_>, url: Option<&At<String>>, contact: Option<&At<Option<String>>>) {
    let host = url.and_then(|at| values::host(&at.value).ok()).filter(|host| values::is_wikimedia(host));
    if let Some((host, At { value: None, place })) = host.zip(contact) {
        section.say_at(
            place,
            format!(
                "{host} asks to know whom to reach: set HOWDAH_CONTACT to an e-mail address or a URL \
                 (with contact = \"${{HOWDAH_CONTACT}}\" here); it is sent in the User-Agent"
            ),
        );
    }
}

fn poll(mut section: Section<'_>) -> Option<PollSettings> {
    let url = section.key("url", "what is asked for");
    let url = url.parse(values::URL, values::url).required();
    let methods = [("GET", "GET"), ("POST", "POST"), ("PUT", "PUT")];
    let method = section.key("method", "how it is asked for").word(&methods).or("GET");
    let headers = headers(&mut section);
    let body = section.key("body", "what is sent along, with method = \"POST\" or \"PUT\"");
    let body = body.parse(STRING, |text| Ok(text.to_owned())).optional();
    let contact = section.key("contact", "an e-mail address or a URL that the service's operators can reach");
    let contact = contact.parse(values::CONTACT, values::contact).or(None);
    let period = section.key("period", "it is asked once in each time slot of this length");
    let period = period.duration(100 * MILLISECOND..=7 * DAY).required();
    let jitter = section.key("jitter", "a request begins up to so much later than its slot, by chance");
    let jitter = jitter.duration(Duration::ZERO..=DAY).or(Duration::ZERO);
    let timeout = section.key("timeout", "an answer that is not whole within this time is none");
    let timeout = timeout.duration(100 * MILLISECOND..=HOUR).or(10 * SECOND);
    let max_pause =
        section.key("max_pause", "after failures the pause doubles, from one period up to this (or one period)");
    let max_pause = max_pause.duration(SECOND..=DAY).or(300 * SECOND);
    let max_answer = section.key("max_answer", "a larger answer is kept as a file and reported as a dead letter");
    let max_answer = max_answer.size(KIB..=64 * MIB).or(MIB);
    let max_pages = section.key("max_pages", "pages of one slot at most").integer(1..=100_000_u32).or(100);
    let reading = reading(&mut section);

    if let Some((Some(body), method)) = body.as_ref().zip(method.as_ref())
        && method.value == "GET"
    {
        section.say_at(&body.place, "a GET has no body, allowed: with method = \"POST\" or \"PUT\"");
    }
    if let Some((period, jitter)) = period.as_ref().zip(jitter.as_ref())
        && jitter.value >= period.value
    {
        let period = show_duration(period.value);
        section.say_at(&jitter.place, format!("a request would begin in a later slot, allowed: less than {period:?}"));
    }
    a_contact_for_wikimedia(&section, url.as_ref(), contact.as_ref());
    section.finish();
    Some(PollSettings {
        url: url?.value,
        method: method?.value.to_owned(),
        headers: headers?,
        body: body?.map(|at| at.value),
        contact: contact?.value,
        period: period?.value,
        jitter: jitter?.value,
        timeout: timeout?.value,
        max_pause: max_pause?.value,
        max_answer: max_answer?.value,
        max_kept: MAX_KEPT,
        max_pages: max_pages?.value,
        reading: reading?,
    })
}

fn reading(section: &mut Section<'_>) -> Option<Reading> {
    let items = section.key("items", "the list whose elements are events; without it the whole answer is one");
    let items = items.parse(values::POINTER, values::pointer).optional();
    let error = section.key("error", "what stands here, unless it is null or false, makes an answer an error");
    let error = error.parse(values::POINTER, values::pointer).optional();
    let next = section.key("next", "what leads to the next page: its address, or a value for next_parameter");
    let next = next.parse(values::POINTER, values::pointer).optional();
    let parameter = section.key("next_parameter", "the parameter of the address that takes the value at next");
    let parameter = parameter.parse(services::TEXT, services::text).optional();
    let one_line = section.key("one_line", "whether JSON goes onto one line: line breaks in it become spaces");
    let one_line = one_line.boolean().or(true);
    if let Some((None, Some(parameter))) = next.as_ref().zip(parameter.as_ref()) {
        section.say_at(&parameter.place, "is only for next = \"/…\": it takes what stands there");
    }
    build(|| {
        let parameter = parameter?.map(|at| at.value);
        let next = next?.map(|at| Next { pointer: at.value, parameter });
        let (items, error) = (items?.map(|at| at.value), error?.map(|at| at.value));
        Some(Reading { items, error, next, one_line: one_line?.value })
    })
}

/// The key `headers` of whatever asks a service.
pub(super) fn headers(section: &mut Section<'_>) -> Option<Vec<Header>> {
    let headers = section.key("headers", "headers of each request: [{ name = \"…\", value = \"…\" }]").sections();
    let headers = headers.or(Vec::new())?;
    let read: Vec<Option<Header>> = headers.value.into_iter().map(header).collect();
    read.into_iter().collect()
}

fn header(mut section: Section<'_>) -> Option<Header> {
    let name = section.key("name", "the header's name");
    let name = name.parse(services::HEADER, services::header).required();
    let value = section.key("value", "what it says");
    let value = value.parse(services::HEADER_VALUE, services::header_value).optional();
    let file = section.key("file", "the file that says it, read at each request");
    let file = file.parse(values::LOCAL_PATH, values::local_path).optional();
    let prefix = section.key("prefix", "what goes before what the file says, like \"Bearer \"");
    let prefix = prefix.parse(services::HEADER_VALUE, services::header_value).optional();
    section.one_of(["value", "file"], "a header has either value = \"…\" or file = \"…\"");
    if let Some((None, Some(prefix))) = file.as_ref().zip(prefix.as_ref()) {
        section.say_at(&prefix.place, "is only for file = \"…\"");
    }
    section.finish();
    let prefix = lifted(Some(prefix))?.flatten().map(|at| at.value);
    let value = match (value?, file?) {
        (Some(text), None) => Secret::Text(text.value),
        (None, Some(path)) => Secret::File { path: path.value, prefix: prefix.unwrap_or_default() },
        _ => return None,
    };
    Some(Header { name: name?.value, value })
}
