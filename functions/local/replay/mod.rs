//! `okra-sync replay`: real transactions, loaded into the sandbox bank and played day by day through the whole system,
//! with a verdict at the end.
//!
//! [`command`] reads the file, plays it and prints the verdict. [`setup`] opens or resumes a [`run::ReplayRun`], which
//! plays the days; [`progress`] is what an interrupted replay resumes from. [`inject`] adds movements to the file's, and
//! [`changes`] compares them with the feed. [`verdict`] compares what is stored and announced with the file; [`report`]
//! has the figures.
//!
//! Rule: the same file and seed give the same days, so that an interrupted replay can be resumed.

mod changes;
mod command;
mod days;
mod inject;
mod progress;
mod report;
mod run;
mod setup;
mod verdict;

pub(crate) use command::run_replay;
