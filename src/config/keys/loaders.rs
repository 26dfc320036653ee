//! The keys of `[loader.<name>]`.

use super::{
    Body, Role, build,
    sinks::{all, filter, start_of},
    sources::headers,
    topic_of,
};
use crate::{
    config::{
        StageKind,
        complaint::{At, quoted},
        form::STRING,
        quantity::{DAY, HOUR, KIB, MIB, MILLISECOND, MINUTE, SECOND},
        section::{ReadKind, Section},
        values::{self, services},
    },
    load::{
        Settings, SinkSettings, elastic, influx,
        keys::Horizon,
        transform::{self, Column, From, Kind, Template, TimeUnit},
    },
    web::Secret,
};

/// What a kind of sink reads: itself, if it is on, and the columns that it takes.
type Told = Option<(Option<SinkSettings>, Vec<Column>)>;

pub(super) fn loader<'t>(section: &mut Section<'t>) -> Body {
    let topic = topic_of(section, "the topic it reads");
    let kinds: [(_, ReadKind<'t, Told>); 2] = [("influxdb", influxdb), ("elasticsearch", elasticsearch)];
    let sink = section.kind("kind", "where it loads to: \"influxdb\" or \"elasticsearch\"", &kinds);
    let sink = sink.and_then(|(_, told)| told);

    let explode = section.key("explode", "the list whose elements are loaded; without it the whole record is");
    let explode = explode.parse(values::POINTER, values::pointer).optional();
    let filters = section.key("filters", "what is loaded: [{ pointer = \"…\", exclude = [\"…\"] }]");
    let filters = filters.sections().or(Vec::new()).and_then(|at| all(at.value, filter));
    let time = section.key("time", "where the element's time stands; without it the bus's time is taken");
    let time = time.parse(values::POINTER, values::pointer).optional();
    let units = [TimeUnit::Seconds, TimeUnit::Millis, TimeUnit::Micros, TimeUnit::Nanos, TimeUnit::Rfc3339];
    let unit = section.key("time_unit", "what the element's time is");
    let unit = unit.word(&units.map(|unit| (unit.words(), unit))).optional();
    let key = section.key("key", "where the key stands of which only the first element is loaded");
    let key = key.parse(values::POINTER, values::pointer).optional();
    let age = section.key("key_horizon", "a key is known for so long (of the bus's time) …");
    let age = age.duration(MINUTE..=3_650 * DAY).or(30 * DAY);
    let most = section.key("key_most", "… and among so many last ones of a partition; about 100 bytes of memory each");
    let most = most.integer(1..=100_000_000_usize).or(500_000);
    let rows = section.key("batch_rows", "rows in one request at most").integer(1..=100_000_usize).or(5_000);
    let bytes = section.key("batch_bytes", "bytes of one request at most, before compression");
    let bytes = bytes.size(KIB..=64 * MIB).or(5 * MIB);
    let linger = section.key("linger", "a row waits for others of its request no longer than this");
    let linger = linger.duration(MILLISECOND..=HOUR).or(SECOND);
    let start = start_of(section);
    let recreated = section.key("recreated", "what it does on a topic that was deleted and created anew");
    let recreated = recreated.word(&[("stop", false), ("begin-anew", true)]).or(false);

    match time.as_ref().zip(unit.as_ref()) {
        Some((Some(time), None)) => section.say_at(&time.place, "wants to know what it is: time_unit = \"…\""),
        Some((None, Some(unit))) => section.say_at(&unit.place, "is only for time = \"/…\": it says what stands there"),
        _ => {}
    }
    let key_for_rules =
        key.as_ref().and_then(Option::as_ref).map(|at| At { value: at.value.clone(), place: at.place.clone() });
    let has_explode = !matches!(explode, Some(None));
    let is_off = matches!(sink, Some((None, _)));
    let settings = build(|| {
        let (sink, columns) = sink?;
        let key = key?.map(|at| at.value);
        let horizon = Horizon { age: age?.value, most: most?.value };
        // One that is off is told nothing.
        Some((
            sink?,
            transform::Settings {
                explode: explode?.map(|at| at.value),
                filters: filters?,
                columns,
                time: time?.map(|at| at.value).zip(unit?.map(|at| at.value)),
                key: key.clone(),
            },
            key.map(|_| horizon),
        ))
    });
    let settings = build(|| {
        let (sink, transform, horizon) = settings?;
        Some(Settings {
            topic: topic.as_ref()?.value.clone(),
            transform,
            horizon,
            sink,
            batch_rows: rows?.value,
            batch_bytes: usize::try_from(bytes?.value).unwrap_or(usize::MAX),
            linger: linger?.value,
            start: start?.value,
            follows_recreated: recreated?.value,
            keys_kept: None,
        })
    });
    let role = Role::Loader { key: key_for_rules, has_explode, is_off };
    Body { topic, role, kind: settings.map(|settings| StageKind::Loader(Box::new(settings))) }
}

/// The address of a sink; nothing: it is off.
fn address(section: &mut Section<'_>) -> Option<At<Option<String>>> {
    let url = section.key("url", "where the sink is; if empty, the loader is off");
    url.parse(services::URL_OR_NONE, services::url_or_none).required()
}

fn influxdb(section: &mut Section<'_>) -> Told {
    let url = address(section);
    let org = section.key("org", "the organisation; InfluxDB 1.8 has none");
    let org = org.parse(STRING, |text| Ok(text.to_owned())).or(String::new());
    let bucket = section.key("bucket", "the bucket; of InfluxDB 1.8 \"database/retention-policy\"");
    let bucket = bucket.parse(STRING, |text| Ok(text.to_owned())).required();
    let token = secret(section, ["token", "token_file"], "what shows who this is; of InfluxDB 1.8 \"user:password\"");
    let headers = headers(section);
    let measurement = section.key("measurement", "what the points are called");
    let measurement = measurement.parse(services::LINE_NAME, services::line_name).required();
    let mut names = Names::default();
    let tags = section.key("tags", "what points are told apart by: [{ name = \"…\", pointer = \"/…\" }]").sections();
    let tags = tags.or(Vec::new()).and_then(|at| all(at.value, |section| tag(section, &mut names)));
    let mut names = Names::default();
    let fields =
        section.key("fields", "what points say: [{ name = \"…\", pointer = \"/…\", type = \"…\" }]").sections();
    let fields = fields.filled("a point without fields says nothing, allowed: at least one").required();
    let fields = fields.and_then(|at| all(at.value, |section| line_field(section, &mut names)));
    let gzip = section.key("gzip", "whether requests are compressed").boolean().or(true);
    let timeout = timeout(section);

    let is_on = url.as_ref().is_some_and(|url| url.value.is_some());
    if let Some(bucket) = bucket.as_ref().filter(|bucket| is_on && bucket.value.is_empty()) {
        section.say_at(&bucket.place, "\"\" names no bucket, and the loader has an address to load to");
    }
    let name = |columns: &[Column]| columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
    let (tags, fields) = (tags?, fields?);
    let settings = influx::Settings {
        url: String::new(),
        org: org?.value,
        bucket: bucket?.value,
        token: token?,
        headers: headers?,
        measurement: measurement?.value,
        tags: name(&tags),
        fields: name(&fields),
        gzip: gzip?.value,
        timeout: timeout?.value,
    };
    let sink = url?.value.map(|url| SinkSettings::Influx(influx::Settings { url, ..settings }));
    Some((sink, tags.into_iter().chain(fields).collect()))
}

fn elasticsearch(section: &mut Section<'_>) -> Told {
    let url = address(section);
    let index = section.key("index", "the index; %Y, %m, %d and %H are of the bus's time, UTC");
    let index = index.parse(services::INDEX, services::index).required();
    let user = section.key("user", "who this is, with password or password_file");
    let user = user.parse(services::TEXT_OR_NONE, services::text_or_none).or(None);
    let password = secret(section, ["password", "password_file"], "the password of user");
    let key = secret(section, ["api_key", "api_key_file"], "what shows who this is, as the server gives it (encoded)");
    let headers = headers(section);
    let mut names = Names::default();
    let fields = section.key("fields", "what documents say; without any they are the elements as they stand");
    let fields = fields.sections().or(Vec::new());
    let fields = fields.and_then(|at| all(at.value, |section| field(section, &mut names)));
    let time_field = section.key("time_field", "the field that takes the time, in milliseconds since 1970");
    let time_field = time_field.parse(services::TEXT, services::text).optional();
    let gzip = section.key("gzip", "whether requests are compressed").boolean().or(true);
    let timeout = timeout(section);

    let user = user.map(|at| at.value);
    let access = match (user?, password?, key?) {
        (None, None, None) => elastic::Access::Open,
        (Some(user), Some(password), None) => elastic::Access::Password(user, password),
        (None, None, Some(key)) => elastic::Access::Key(key),
        _ => {
            section
                .say("either user with password or password_file, or api_key or api_key_file alone, or none of them");
            return None;
        }
    };
    let fields = fields?;
    let settings = elastic::Settings {
        url: String::new(),
        index: index?.value,
        access,
        headers: headers?,
        fields: fields.iter().map(|column| column.name.clone()).collect(),
        time_field: time_field?.map(|at| at.value),
        gzip: gzip?.value,
        timeout: timeout?.value,
    };
    let sink = url?.value.map(|url| SinkSettings::Elastic(elastic::Settings { url, ..settings }));
    Some((sink, fields))
}

fn timeout(section: &mut Section<'_>) -> Option<At<std::time::Duration>> {
    let timeout = section.key("timeout", "a request without an answer for this long has failed");
    timeout.duration(100 * MILLISECOND..=MINUTE).or(30 * SECOND)
}

/// A secret as it stands at the one key, or in the file that the other names; nothing at the first is none.
fn secret(
    section: &mut Section<'_>,
    [here, in_file]: [&'static str; 2],
    meaning: &'static str,
) -> Option<Option<Secret>> {
    let text = section.key(here, meaning).parse(services::HEADER_VALUE, services::header_value).optional();
    let file = section.key(in_file, "the file that says it, read at each request");
    let file = file.parse(values::LOCAL_PATH, values::local_path).optional();
    let (text, file) = (text?, file?);
    if let (Some(_), Some(file)) = (&text, &file) {
        section.say_at(&file.place, format!("{here} says it already"));
        return None;
    }
    let text = text.map(|at| at.value).filter(|text| !text.is_empty()).map(Secret::Text);
    Some(file.map(|at| Secret::File { path: at.value, prefix: String::new() }).or(text))
}

/// The names of columns so far.
#[derive(Default)]
struct Names(std::collections::BTreeMap<String, String>);

impl Names {
    fn take(&mut self, section: &Section<'_>, name: &At<String>) {
        if let Some(taken) = self.0.insert(name.value.clone(), name.place.key.clone()) {
            section.say_at(&name.place, format!("the name {} is there already ({taken})", quoted(&name.value)));
        }
    }
}

fn tag(mut section: Section<'_>, names: &mut Names) -> Option<Column> {
    let name = section.key("name", "the tag's name").parse(services::LINE_NAME, services::line_name).required();
    let column = column(section, name, names, &[("string", Kind::Text)])?;
    Some(column)
}

fn line_field(mut section: Section<'_>, names: &mut Names) -> Option<Column> {
    let name = section.key("name", "the field's name").parse(services::LINE_NAME, services::line_name).required();
    column(section, name, names, &KINDS)
}

fn field(mut section: Section<'_>, names: &mut Names) -> Option<Column> {
    let name = section.key("name", "the field's name").parse(services::TEXT, services::text).required();
    column(section, name, names, &KINDS)
}

const KINDS: [(&str, Kind); 4] =
    [("string", Kind::Text), ("integer", Kind::Integer), ("float", Kind::Float), ("boolean", Kind::Boolean)];

fn column(
    mut section: Section<'_>,
    name: Option<At<String>>,
    names: &mut Names,
    kinds: &[(&'static str, Kind)],
) -> Option<Column> {
    let pointer = section.key("pointer", "where it stands in the element");
    let pointer = pointer.parse(values::POINTER, values::pointer).optional();
    let record = section.key("record", "where it stands in the record that the element is of");
    let record = record.parse(values::POINTER, values::pointer).optional();
    let template = section.key("template", "a text with parts of the element, like \"{/name/first} {/name/last}\"");
    let template = template.parse(services::TEMPLATE, Template::parse).optional();
    let value = section.key("value", "a text that is always the same");
    let value = value.parse(STRING, |text| Ok(text.to_owned())).optional();
    let kind = section.key("type", "of which type it is").word(kinds).or(Kind::Text);
    let required = section.key("required", "whether an element without it cannot be loaded").boolean().or(false);
    section.one_of(
        ["pointer", "record", "template", "value"],
        "a column has either pointer = \"/…\", record = \"/…\", template = \"…\" or value = \"…\"",
    );
    if let Some(name) = &name {
        names.take(&section, name);
    }
    section.finish();
    let from = match (pointer?, record?, template?, value?) {
        (Some(at), None, None, None) => From::Element(at.value),
        (None, Some(at), None, None) => From::Record(at.value),
        (None, None, Some(at), None) => From::Template(at.value),
        (None, None, None, Some(at)) => From::Constant(at.value),
        _ => return None,
    };
    Some(Column { name: name?.value, from, kind: kind?.value, required: required?.value })
}
