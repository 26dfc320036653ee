//! librdkafka's errors in the words of [`fault`](crate::fault), decided in one place.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::fault::{Fault, Kind, Retry};

/// The fault that an error at `place` is. Whether a write may have happened is the caller's knowledge.
pub(super) fn classify(place: impl std::fmt::Display, error: &KafkaError) -> Fault {
    match error {
        KafkaError::ClientConfig(_, text, key, value) => {
            Fault::user(format!("{place}: librdkafka refuses {key} = {value:?}: {text}"))
        }
        KafkaError::ClientCreation(text) => Fault::user(format!("{place}: {text}")),
        KafkaError::Nul(_) => Fault::user(format!("{place}: a name holds a NUL")),
        KafkaError::Transaction(error) => of_code(&place, error.code(), &error.string()),
        other => match other.rdkafka_error_code() {
            Some(code) => of_code(&place, code, &other.to_string()),
            None => Fault::external(format!("{place}: {other}")),
        },
    }
}

/// The same for a bare code with librdkafka's words to it.
pub(super) fn of_code(place: impl std::fmt::Display, code: Code, words: &str) -> Fault {
    let text = format!("{place}: {words}");
    match code {
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => Fault::external(text).kind(Kind::Fenced),
        Code::UnknownTopic
        | Code::UnknownTopicOrPartition
        | Code::UnknownPartition
        | Code::InvalidTopic
        | Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidConfig
        | Code::PolicyViolation
        | Code::UnsupportedFeature
        | Code::MessageSizeTooLarge
        | Code::InvalidMessageSize
        | Code::MessageBatchTooLarge
        | Code::InvalidTransactionTimeout => Fault::user(text),
        // Who may do what is changed beside us; then it goes on.
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::SaslAuthenticationFailed
        | Code::Authentication
        | Code::UnsupportedSASLMechanism
        | Code::SSL => Fault::user(text).retry(Retry::Backoff),
        Code::BadMessage | Code::InvalidMessage | Code::BadCompression => {
            Fault::data(format!("{text} (a record set on the broker's disk or on its way is damaged)")).kind(Kind::Lost)
        }
        _ => Fault::external(text),
    }
}

/// Whether this client knows less than the brokers do.
pub(super) fn is_ignorance(code: Code) -> bool {
    matches!(
        code,
        Code::UnknownPartition
            | Code::UnknownTopic
            | Code::UnknownTopicOrPartition
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
    )
}

/// Whether librdkafka says by this that it goes on by itself once the brokers are back.
pub(super) fn passes(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::MessageTimedOut
            | Code::RequestTimedOut
            | Code::NetworkException
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::BrokerNotAvailable
            | Code::ReplicaNotAvailable
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::WaitingForCoordinator
            | Code::Interrupted
    )
}
