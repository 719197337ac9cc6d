//! Tests of the real binary and of the parts together.
#![allow(missing_docs)]

mod bad_input;
