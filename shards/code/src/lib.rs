//! Room code.
