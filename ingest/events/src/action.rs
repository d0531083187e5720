//! The closed list of known actions. Everything else is a custom event.

use std::borrow::Cow;

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal;)*) => {
        /// A known action. The numbers are on the wire and are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
        #[repr(i32)]
        pub enum ActionKind {
            /// Any other name: kept in the log and the warehouse, not interpreted.
            Custom = 0,
            $($(#[$doc])* $variant = $number,)*
        }

        impl ActionKind {
            /// Every known action.
            pub const KNOWN: &'static [ActionKind] = &[$(ActionKind::$variant,)*];

            /// The canonical snake-case name; empty for [`ActionKind::Custom`].
            pub const fn as_str(self) -> &'static str {
                match self {
                    ActionKind::Custom => "",
                    $(ActionKind::$variant => $name,)*
                }
            }

            /// The action with this folded name, or [`ActionKind::Custom`].
            pub fn from_folded(name: &str) -> ActionKind {
                match name {
                    $($name => ActionKind::$variant,)*
                    _ => ActionKind::Custom,
                }
            }
        }
    };
}

actions! {
    /// An account was made.
    UserRegistered = 1, "user_registered";
    /// The actor follows `target_id`.
    UserFollowed = 2, "user_followed";
    /// The actor no longer follows `target_id`.
    UserUnfollowed = 3, "user_unfollowed";
    /// The actor blocks `target_id`: neither sees the other.
    UserBlocked = 4, "user_blocked";
    /// The block is lifted.
    UserUnblocked = 5, "user_unblocked";
    /// The actor does not want to see `target_id`.
    UserMuted = 6, "user_muted";
    /// The mute is lifted.
    UserUnmuted = 7, "user_unmuted";
    /// The actor wrote `post_id`.
    PostCreated = 8, "post_created";
    /// The author changed `post_id`.
    PostEdited = 9, "post_edited";
    /// The author deleted `post_id`.
    PostDeleted = 10, "post_deleted";
    /// The actor saw `post_id`; counts every time.
    PostViewed = 11, "post_viewed";
    /// The actor opened `post_id`.
    PostClicked = 12, "post_clicked";
    /// The actor likes `post_id`: a state, not a count.
    PostLiked = 13, "post_liked";
    /// The like is taken back.
    PostUnliked = 14, "post_unliked";
    /// The actor passed `post_id` on.
    PostShared = 15, "post_shared";
    /// The actor hid `post_id` from their feed.
    PostHidden = 16, "post_hidden";
    /// The actor kept `post_id` for later.
    PostSaved = 17, "post_saved";
    /// The actor commented on `post_id`.
    PostCommented = 18, "post_commented";
    /// The actor reported `post_id`.
    PostReported = 19, "post_reported";
    /// The actor searched.
    SearchPerformed = 20, "search_performed";
    /// The actor follows a tag.
    TagFollowed = 21, "tag_followed";
    /// The actor no longer follows a tag.
    TagUnfollowed = 22, "tag_unfollowed";
}

/// Folds an event name to snake case: `Post Liked`, `postLiked`, `post-liked` and `post_liked` are one name.
///
/// A run of characters that are neither letters nor digits becomes one underscore; an underscore is put before an upper-case
/// letter that follows a lower-case letter or a digit, or that ends a run of capitals (`HTTPRequest` is `http_request`).
/// Borrows when there is nothing to change.
pub fn fold_name(name: &str) -> Cow<'_, str> {
    let folded = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if !name.is_empty()
        && name.bytes().all(folded)
        && !name.contains("__")
        && !name.starts_with('_')
        && !name.ends_with('_')
    {
        return Cow::Borrowed(name);
    }
    let chars: Vec<char> = name.chars().collect();
    let mut out = String::with_capacity(name.len() + 4);
    for (i, &c) in chars.iter().enumerate() {
        if !c.is_alphanumeric() {
            if !out.is_empty() && !out.ends_with('_') {
                out.push('_');
            }
            continue;
        }
        if c.is_uppercase() && i > 0 {
            let before = chars[i - 1];
            let ends_capitals = before.is_uppercase() && chars.get(i + 1).is_some_and(|n| n.is_lowercase());
            let starts_word = before.is_lowercase() || before.is_numeric() || ends_capitals;
            if starts_word && !out.ends_with('_') {
                out.push('_');
            }
        }
        out.extend(c.to_lowercase());
    }
    while out.ends_with('_') {
        out.pop();
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, folded: &str) {
        assert_eq!(fold_name(name), folded);
        assert_eq!(fold_name(folded), folded, "folding is idempotent");
    }

    #[test]
    fn names_fold_to_snake_case() {
        check("Post Liked", "post_liked");
        check("postLiked", "post_liked");
        check("PostLiked", "post_liked");
        check("post_liked", "post_liked");
        check("post-liked", "post_liked");
        check("  Post   Liked!", "post_liked");
        check("HTTPRequest", "http_request");
        check("Signed Up 2x", "signed_up_2x");
        check("_private", "private");
        check("Über Gut", "über_gut");
        check("$feature_flag_called", "feature_flag_called");
        check("", "");
    }

    #[test]
    fn every_known_action_finds_itself() {
        for &kind in ActionKind::KNOWN {
            assert_eq!(ActionKind::from_folded(kind.as_str()), kind);
            assert_eq!(fold_name(kind.as_str()), kind.as_str());
        }
        assert_eq!(ActionKind::from_folded("anything_else"), ActionKind::Custom);
    }
}
