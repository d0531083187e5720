//! Persons.

use millrace_feature_store::person::Person;
use millrace_feature_store::views::ALIASES_MAX;

use crate::hydrate::read_person;
use crate::posts::check;
use crate::{Ranker, Result};

impl Ranker {
    /// The person that `id` belongs to; one that was never linked to another is a person of its own.
    ///
    /// # Errors
    /// As of [`Ranker::post`].
    pub async fn person(&self, id: &str) -> Result<Person> {
        check("id", id)?;
        let (person, _) = read_person(self.store.as_ref(), id, &[], ALIASES_MAX).await?;
        Ok(person)
    }
}
