//! The laws of job state: in one process and between processes, in memory, in a folder and on MinIO.

use millrace_pipelines::state_conformance;

use crate::places::{One, Place, Several};

state_conformance!(in_memory, Some(One(Place::memory())));
state_conformance!(in_memory_between_processes, Some(Several(Place::memory())));
state_conformance!(in_a_folder, Some(One(Place::folder())));
state_conformance!(on_minio, Place::minio().map(One));
state_conformance!(on_minio_between_processes, Place::minio().map(Several));
