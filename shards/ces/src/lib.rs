//! Room ces.
