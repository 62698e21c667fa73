//! The rules of the house are the test `tidy`; a package needs a library beside it.
//!
//! A package of its own, so that looking at the sources does not wait for them to be compiled.
