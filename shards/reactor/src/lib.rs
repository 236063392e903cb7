//! Room reactor.
