//! Tests of the real binary and of the parts together.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod adversity;
mod alerts;
mod bad_input;
mod cluster;
mod confined;
mod control;
mod corpus;
mod dashboard;
mod demo;
mod explain;
mod floods;
mod harness;
mod idle;
mod innocent;
mod keys;
mod links;
mod matrix;
mod offline;
mod partition;
mod prometheus;
mod secrets;
mod security;
mod sixty_four;
mod tap;
mod wire_count;
