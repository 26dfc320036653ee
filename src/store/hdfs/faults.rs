//! hdfs-native's errors in the words of [`fault`](crate::fault), decided in one place.

use hdfs_native::HdfsError;

use crate::{
    fault::{Fault, Kind, Retry},
    store::StorePath,
};

/// Why a call did not do what it should, as far as its caller treats reasons apart.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing is at the path, or one of its folders is missing.
    Missing,
    /// Something stands there already.
    Exists,
    /// Everything else. The call may have been done all the same, if the fault's effect says so.
    Fault(Fault),
}

impl Failure {
    /// The failure as a fault, where its caller has no other word for it.
    pub(super) fn fault(self, place: &str, path: &StorePath) -> Fault {
        match self {
            Self::Missing => Fault::external(format!("{place}: {path} is not there")),
            Self::Exists => Fault::external(format!("{place}: {path} exists already")),
            Self::Fault(fault) => fault,
        }
    }
}

/// The failure that an error at `place` is.
pub(super) fn classify(place: &str, path: &StorePath, error: HdfsError) -> Failure {
    let text = format!("{place}: {path}: {}", words(&error));
    Failure::Fault(match error {
        HdfsError::AlreadyExists(_) => return Failure::Exists,
        HdfsError::FileNotFound(_) => return Failure::Missing,
        HdfsError::RPCError(class, message) | HdfsError::FatalRPCError(class, message) => {
            return of_class(text, &class, &message);
        }
        HdfsError::InvalidPath(_)
        | HdfsError::InvalidArgument(_)
        | HdfsError::UrlParseError(_)
        | HdfsError::XmlParseError(_)
        | HdfsError::TrashNotEnabled
        | HdfsError::UnsupportedErasureCodingPolicy(_)
        | HdfsError::UnsupportedFeature(_)
        | HdfsError::IsADirectoryError(_) => Fault::user(text),
        // A ticket or a key is renewed beside us; then it goes on.
        HdfsError::SASLError(_) | HdfsError::GSSAPIError(..) | HdfsError::NoSASLMechanism => {
            Fault::user(text).retry(Retry::Backoff)
        }
        // The connection broke, perhaps after the request had arrived.
        HdfsError::IOError(_) | HdfsError::InvalidRPCResponse(_) => Fault::external(text).unknown_effect(),
        HdfsError::DataTransferError(_)
        | HdfsError::ChecksumError
        | HdfsError::OperationFailed(_)
        | HdfsError::BlocksNotFound(_)
        | HdfsError::ErasureCodingError(_) => Fault::external(text).unknown_effect(),
        HdfsError::InternalError(_) => Fault::internal(text).unknown_effect().retry(Retry::Backoff),
    })
}

/// The NameNode refused, and says of which Java class its reason is. A refusal is never half done.
fn of_class(text: String, class: &str, message: &str) -> Failure {
    let name = class.rsplit(['.', '$']).next().unwrap_or(class);
    Failure::Fault(match name {
        "FileNotFoundException" if message.contains("is not a file") => Fault::user(text),
        "FileNotFoundException" => return Failure::Missing,
        // "/a/file/below": a file where a folder would have to be. Who may not look into the path is
        // told so in the words of the other exception.
        "ParentNotDirectoryException" | "PathIsNotDirectoryException" => Fault::user(text),
        "AccessControlException" | "AuthorizationException" => {
            Fault::user(format!("{text} (grant the right, or set `user`)")).retry(Retry::Backoff)
        }
        "DSQuotaExceededException" | "NSQuotaExceededException" | "QuotaExceededException" => {
            Fault::external(text).kind(Kind::Full)
        }
        "InvalidPathException" | "PathComponentTooLongException" | "IllegalArgumentException" => Fault::user(text),
        // SafeModeException, StandbyException, RetriableException, IOException …
        _ => Fault::external(text),
    })
}

/// Whether a file stands where the path wants a folder: then nothing is below it.
pub(super) fn is_below_a_file(error: &HdfsError) -> bool {
    match error {
        HdfsError::RPCError(class, message) => {
            class.ends_with("ParentNotDirectoryException")
                || (class.ends_with("AccessControlException") && message.contains("is not a directory"))
        }
        _ => false,
    }
}

/// The first line of what Java or hdfs-native say; the rest is a stack of calls.
fn words(error: &HdfsError) -> String {
    if let HdfsError::GSSAPIError(_, code, text) = error {
        // Its own text says first what every failure of its kind has in common.
        let text = text.trim().replace('\n', ": ");
        return format!("Kerberos: {text} (code {code}; without a keytab, tickets come from kinit)");
    }
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
