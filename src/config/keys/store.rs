//! The keys of `[store]`.

use super::{build, lifted};
use crate::{
    config::{
        StoreSettings, clusters,
        complaint::At,
        quantity::{MIB, MINUTE, SECOND},
        section::{ReadKind, Section},
        values,
    },
    store::hdfs::{Durability, Kerberos, Settings},
};

pub(super) fn store(mut section: Section<'_>) -> Option<At<StoreSettings>> {
    let kinds: [(_, ReadKind<'_, _>); 3] = [("local", local), ("hdfs", hdfs), ("auto", auto)];
    let meaning = "the kind of store: \"local\", \"hdfs\", or \"auto\": HDFS if there is an address, else local";
    let settings = section.kind("kind", meaning, &kinds);
    section.finish();
    settings?.1
}

fn local(section: &mut Section<'_>) -> Option<At<StoreSettings>> {
    let path = section.key("path", "the local store's root on this machine: its paths begin there");
    let path = path.parse(values::LOCAL_PATH, values::local_path).required();
    path.map(|At { value: root, place }| At { value: StoreSettings::Local { root }, place })
}

fn hdfs(section: &mut Section<'_>) -> Option<At<StoreSettings>> {
    let url = section.key("url", "the NameNode, \"hdfs://host:port\", or a name service, \"hdfs://name\"");
    let url = url.parse(clusters::HDFS_URL, clusters::hdfs_url).required();
    let settings = options(section);
    let At { value: url, place } = url?;
    Some(At { value: StoreSettings::Hdfs(Settings { url, ..settings? }), place })
}

/// HDFS where its address is given, the local file system where it is not: one file for both.
fn auto(section: &mut Section<'_>) -> Option<At<StoreSettings>> {
    let url = section.key("url", "the NameNode or name service; if empty, the store is the local one");
    let url = url.parse(clusters::HDFS_URL_OR_NONE, clusters::hdfs_url_or_none).or(None);
    let settings = options(section);
    let local = local(section);
    match url? {
        At { value: None, .. } => local,
        At { value: Some(url), place } => Some(At { value: StoreSettings::Hdfs(Settings { url, ..settings? }), place }),
    }
}

/// Everything about HDFS but where it is.
fn options(section: &mut Section<'_>) -> Option<Settings> {
    let plain = Settings::plain("");
    let conf = section.key("conf_dir", "the folder of core-site.xml and hdfs-site.xml; if empty, $HADOOP_CONF_DIR");
    let conf = conf.parse(clusters::FOLDER_OR_NONE, clusters::folder_or_none).or(None);
    let user = section.key("user", "as whom; if empty, $HADOOP_USER_NAME or who the process is");
    let user = user.parse(clusters::USER_OR_NONE, clusters::user_or_none).or(None);
    let kerberos = section.key("kerberos", "as whom, proven by a keytab: kerberos = { principal = \"…\", … }");
    let kerberos = kerberos.section().optional();
    let kerberos = kerberos.map(|found| found.map(|at| self::kerberos(at.value)));
    if let (Some(Some(_)), Some(Some(_))) = (&kerberos, user.as_ref().map(|user| &user.value)) {
        section.say("user and kerberos both say as whom: the user is the principal's, so leave user out");
    }
    let replication = section.key("replication", "copies of each block; without it as the cluster has it");
    let replication = replication.integer(1..=512).optional();
    let block = section.key("block_size", "bytes of a block; without it as the cluster has it");
    let block = block.size(MIB..=2_048 * MIB).optional();
    let words = [("close", Durability::Close), ("hsync", Durability::Hsync)];
    let durability = section.key("durability", "a file counts when all its DataNodes have it: in memory, or on disk");
    let durability = durability.word(&words).or(plain.durability);
    let file_mode = section.key("file_mode", "permission of new files, in octal, like \"0640\"");
    let file_mode = file_mode.parse(clusters::MODE, clusters::mode).or(plain.file_mode);
    let folder_mode = section.key("folder_mode", "permission of new folders, in octal, like \"0750\"");
    let folder_mode = folder_mode.parse(clusters::MODE, clusters::mode).or(plain.folder_mode);
    let deadline = section.key("deadline", "a call without an answer for this long has failed");
    let deadline = deadline.duration(2 * SECOND..=MINUTE).or(plain.deadline);
    let silence = section.key("datanode_timeout", "a DataNode that is silent for this long in a transfer is given up");
    let silence = silence.duration(SECOND..=MINUTE).or(plain.datanode_timeout);
    build(|| {
        Some(Settings {
            conf_dir: conf?.value,
            user: user?.value,
            kerberos: lifted(kerberos?)?,
            replication: replication?.map(|at| at.value),
            block_size: block?.map(|at| at.value),
            durability: durability?.value,
            file_mode: file_mode?.value,
            folder_mode: folder_mode?.value,
            deadline: deadline?.value,
            datanode_timeout: silence?.value,
            ..plain
        })
    })
}

fn kerberos(mut section: Section<'_>) -> Option<Kerberos> {
    let principal = section.key("principal", "the name with its realm, like \"howdah@EXAMPLE.ORG\"");
    let principal = principal.parse(clusters::PRINCIPAL, clusters::principal).required();
    let keytab = section.key("keytab", "the file that holds its keys");
    let keytab = keytab.parse(values::LOCAL_PATH, values::local_path).required();
    section.finish();
    Some(Kerberos { principal: principal?.value, keytab: keytab?.value })
}
