//! Posts and their counters.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use millrace_events::{LogTime, Window, format_rfc3339};
use millrace_feature_store::views::{EngagementRecord, PostRecord, WindowCounts};
use serde::Serialize;
use utoipa::ToSchema;

use super::Answer;
use super::query::Id;
use crate::api::Shared;
use crate::error::{ApiError, Problem};

/// A post as it is now.
#[derive(Serialize, ToSchema)]
pub(crate) struct Post {
    post_id: String,
    author_id: String,
    /// RFC 3339.
    created_at: String,
    /// RFC 3339; null when never edited.
    edited_at: Option<String>,
    /// Deleted by its author: the content is gone.
    deleted: bool,
    text: String,
    tags: Vec<String>,
    /// text, image, video or link; null when not said. The same for what follows.
    kind: Option<String>,
    lang: Option<String>,
    reply_to: Option<String>,
    repost_of: Option<String>,
    url: Option<String>,
    /// A robot wrote it.
    robot: bool,
}

/// A post.
#[utoipa::path(get, path = "/v1/posts/{post_id}", tag = "posts",
    params(
        ("post_id" = String, Path, description = "Which", min_length = 1, max_length = 200,
            pattern = r"^[^\x00-\x1f\x7f-\x9f]+$"),
    ), responses(
    (status = 200, body = Post), (status = "4XX", body = Problem), (status = "5XX", body = Problem),
))]
pub(crate) async fn post(State(shared): State<Arc<Shared>>, Id(post_id): Id) -> Answer<Post> {
    let post = shared.state.ranker.post(&post_id).await?.ok_or_else(ApiError::no_post)?;
    let PostRecord { author_id, created_at_us, edited_at_us, deleted, content, robot } = post;
    let content = content.unwrap_or_default();
    let said = |text: String| (!text.is_empty()).then_some(text);
    Ok(Json(Post {
        post_id,
        author_id,
        created_at: format_rfc3339(created_at_us),
        edited_at: (edited_at_us != 0).then(|| format_rfc3339(edited_at_us)),
        deleted,
        text: content.text,
        tags: content.tags,
        kind: said(content.kind),
        lang: said(content.lang),
        reply_to: said(content.reply_to),
        repost_of: said(content.repost_of),
        url: said(content.url),
        robot,
    }))
}

/// The counters of a post.
#[derive(Serialize, ToSchema)]
pub(crate) struct Engagement {
    post_id: String,
    /// Null when the post is not known.
    author_id: Option<String>,
    totals: Totals,
    windows: Windows,
    /// The log time up to which this answer is complete; null before anything was applied.
    as_of: Option<String>,
}

/// Since the post exists. Likes are the people who like it now, unique viewers an estimate; the rest counts every event.
#[derive(Serialize, ToSchema)]
pub(crate) struct Totals {
    views: u64,
    unique_viewers: u64,
    clicks: u64,
    likes: u64,
    comments: u64,
    shares: u64,
    saves: u64,
    hides: u64,
    reports: u64,
}

/// What the post drew lately: for each width the tumbling window that holds `as_of`. They count events on time, by event
/// time, and are still counting.
#[derive(Serialize, ToSchema)]
pub(crate) struct Windows {
    /// Five minutes, beginning at a multiple of five minutes.
    #[serde(rename = "5m")]
    five_minutes: WindowTotals,
    /// An hour, beginning at a full one.
    #[serde(rename = "1h")]
    hour: WindowTotals,
    /// A day in UTC.
    #[serde(rename = "24h")]
    day: WindowTotals,
}

/// Within one window. `likes` are likes that took effect and `unlikes` likes taken back; distinct viewers are not kept.
#[derive(Serialize, ToSchema)]
pub(crate) struct WindowTotals {
    /// RFC 3339; null, like `end`, while `as_of` is.
    start: Option<String>,
    /// RFC 3339: the first moment that is not in the window.
    end: Option<String>,
    views: u64,
    clicks: u64,
    likes: u64,
    unlikes: u64,
    comments: u64,
    shares: u64,
    saves: u64,
    hides: u64,
    reports: u64,
}

/// The counters of a post; zeros for one that nobody has reacted to.
#[utoipa::path(get, path = "/v1/posts/{post_id}/engagement", tag = "posts",
    params(
        ("post_id" = String, Path, description = "Which", min_length = 1, max_length = 200,
            pattern = r"^[^\x00-\x1f\x7f-\x9f]+$"),
    ), responses(
    (status = 200, body = Engagement), (status = "4XX", body = Problem), (status = "5XX", body = Problem),
))]
pub(crate) async fn engagement(State(shared): State<Arc<Shared>>, Id(post_id): Id) -> Answer<Engagement> {
    // The clock is read first: the totals can then only be more complete than it says.
    let as_of = shared.state.ranker.as_of().await?;
    let (post, totals) = shared.state.ranker.engagement(&post_id).await?;
    let windows = Windows {
        five_minutes: within(Window::FiveMinutes, as_of, &totals.windows),
        hour: within(Window::Hour, as_of, &totals.windows),
        day: within(Window::Day, as_of, &totals.windows),
    };
    let EngagementRecord { views, unique_viewers, clicks, likes, comments, shares, saves, hides, reports, .. } = totals;
    Ok(Json(Engagement {
        post_id,
        author_id: post.map(|post| post.author_id),
        totals: Totals { views, unique_viewers, clicks, likes, comments, shares, saves, hides, reports },
        windows,
        as_of: as_of.map(|t| t.to_string()),
    }))
}

/// The window of this width that holds `as_of`; zeros when the post was not touched in it.
fn within(window: Window, as_of: Option<LogTime>, known: &[WindowCounts]) -> WindowTotals {
    let start_us = as_of.map(|as_of| window.start_of(as_of.0));
    let is_it = |counts: &&WindowCounts| counts.window == window as u32 && Some(counts.start_us) == start_us;
    let counts = known.iter().find(is_it).copied().unwrap_or_default();
    let WindowCounts { views, clicks, likes, unlikes, comments, shares, saves, hides, reports, .. } = counts;
    let start = start_us.map(format_rfc3339);
    let end = start_us.map(|start_us| format_rfc3339(start_us.saturating_add(window.width_us())));
    WindowTotals { start, end, views, clicks, likes, unlikes, comments, shares, saves, hides, reports }
}
