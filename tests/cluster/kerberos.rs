//! HDFS guarded by Kerberos: tickets that end, a key distribution centre that hangs and dies, and who is
//! nobody there.

use std::{fs, thread, time::Duration};

use super::{
    faults::weather,
    stand::{Case, Clusters, guarded, kerberos},
};
use crate::process::harness::finish;

/// How long a ticket is good for, in seconds; a segment takes longer.
const LIFE: &str = "3";
/// What is strictest: DataNodes encrypt too.
const PRIVATE: &str = "dfs.data.transfer.protection=privacy";

const LONGER: Duration = Duration::from_secs(4);

#[test]
fn tickets_end_within_segments_and_the_kdc_goes_away_and_nothing_is_lost() {
    let clusters = Clusters::with(
        &["kafka"],
        &["hdfs", "--kerberos", "--datanodes", "1", "--ticket-life", LIFE, "--set", PRIVATE],
    );
    let hdfs = &clusters.hdfs;
    let slow = [("roll_age = \"1s\"", "roll_age = \"8s\"")];
    // An open connection outlives its ticket; the NameNode's end closes it within a segment.
    weather(&Case::changed(&clusters, "tickets_end", 1, 150.0, &slow), || {
        thread::sleep(LONGER);
        hdfs.order("kill", "nn-1");
        hdfs.order("start", "nn-1");
        thread::sleep(LONGER);
    });
    weather(&Case::changed(&clusters, "kdc_hangs", 1, 150.0, &slow), || {
        hdfs.order("kill", "nn-1");
        hdfs.order("start", "nn-1");
        // Whoever has no ticket any more has to wait.
        hdfs.order("pause", "kdc");
        thread::sleep(LONGER * 2);
        hdfs.order("resume", "kdc");
    });
    weather(&Case::changed(&clusters, "kdc_away", 1, 150.0, &slow), || {
        hdfs.order("kill", "nn-1");
        hdfs.order("start", "nn-1");
        hdfs.order("kill", "kdc");
        thread::sleep(LONGER * 2);
        hdfs.order("start", "kdc");
    });
    strangers(&Case::new(&clusters, "strangers", 1, 0.0));
}

/// Who may not, cannot prove who he is, or says nothing, is told so.
fn strangers(case: &Case<'_>) {
    let hdfs = &case.clusters.hdfs;
    let owner = (hdfs.about("principal"), hdfs.about("keytab"));
    let whole = fs::read_to_string(&case.pipeline).unwrap();
    let nobodys = whole.replace(&kerberos(owner.0, owner.1), "");
    assert_ne!(nobodys, whole);
    let said = |principal: &str, keytab: &str| {
        let other = guarded(&nobodys, principal, keytab);
        fs::write(&case.pipeline, other).unwrap();
        let (code, _, err) = finish(&mut case.run(None));
        assert_ne!(code, 0, "{err}");
        err
    };
    let intruder = (hdfs.about("intruder_principal"), hdfs.about("intruder_keytab"));
    let err = said(intruder.0, intruder.1);
    assert!(err.contains("Permission denied: user=intruder"), "{err}");
    let err = said(owner.0, intruder.1);
    assert!(err.contains("as howdah@HOWDAH.TEST: /: Kerberos: No credentials"), "{err}");
    let err = said(owner.0, "/nowhere/howdah.keytab");
    assert!(err.contains("keytab /nowhere/howdah.keytab: No such file"), "{err}");
    fs::write(&case.pipeline, nobodys).unwrap();
    let (code, _, err) = finish(&mut case.run(None));
    assert!(code != 0 && err.contains(": /: Kerberos: No credentials"), "{err}");
}
