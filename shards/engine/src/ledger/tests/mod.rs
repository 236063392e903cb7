use super::*;

mod attacks;
mod model;
mod usual;
mod world;
