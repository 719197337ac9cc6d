//! Tests of the real binary and of the parts together.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod adversity;
mod alerts;
mod bad_input;
mod client;
mod cluster;
mod confined;
mod container;
mod control;
mod corpus;
mod dashboard;
mod demo;
mod discovery;
mod docs;
mod drain;
mod explain;
mod floods;
mod harness;
mod hooks;
mod idle;
mod innocent;
mod keys;
mod kubernetes;
mod links;
mod matrix;
mod notify;
mod offline;
mod package;
mod partition;
mod prometheus;
mod secrets;
mod security;
mod services;
mod sixty_four;
mod tap;
mod wire_count;
