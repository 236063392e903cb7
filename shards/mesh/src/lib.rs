//! Room mesh.
