//! What rises.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use millrace_events::Window;
use millrace_ranking::LIMIT_MAX;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Answer;
use super::query::{Params, limit};
use crate::api::Shared;
use crate::error::{ApiError, Problem};

/// The parameters of what rises.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct TrendParams {
    /// `5m`, `1h` or `24h`; an hour when absent.
    #[param(pattern = "^(5m|1h|24h)$")]
    window: Option<String>,
    /// How many items, 1 to 100; 20 when absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100)]
    limit: Option<String>,
}

/// The tags that rise.
#[derive(Serialize, ToSchema)]
pub(crate) struct TrendingTags {
    window: &'static str,
    /// The log time, a whole second, at which the window ends; null before anything was applied.
    as_of: Option<String>,
    /// What rises most comes first.
    items: Vec<TrendingTag>,
}

/// A tag that rises.
#[derive(Serialize, ToSchema)]
pub(crate) struct TrendingTag {
    /// From 1.
    rank: usize,
    tag: String,
    /// −log10 of a bound on the probability to count as much while the rate is at most twice that of the past; below 1
    /// while the log is too young to tell.
    score: f64,
    /// Posts that used it within the window.
    count: u64,
    /// How many its own past leads to expect.
    baseline: f64,
    /// The score is 3 or more.
    rising: bool,
}

/// The posts that rise.
#[derive(Serialize, ToSchema)]
pub(crate) struct TrendingPosts {
    window: &'static str,
    /// The log time, a whole second, at which the window ends; null before anything was applied.
    as_of: Option<String>,
    /// What rises most comes first.
    items: Vec<TrendingPost>,
}

/// A post that rises.
#[derive(Serialize, ToSchema)]
pub(crate) struct TrendingPost {
    /// From 1.
    rank: usize,
    post_id: String,
    author_id: String,
    /// As of a tag.
    score: f64,
    /// Likes, comments, shares and saves within the window.
    count: u64,
    /// How many its own past leads to expect.
    baseline: f64,
    /// The score is 3 or more.
    rising: bool,
}

impl TrendParams {
    fn read(&self) -> Result<(Window, usize), ApiError> {
        let window = self.window.as_deref().map_or(Ok(Window::Hour), str::parse);
        let window = window.map_err(|error| ApiError::invalid("invalid_window", error.to_string()))?;
        Ok((window, limit(self.limit.as_deref(), LIMIT_MAX)?))
    }
}

/// The tags that rise most against their own past.
#[utoipa::path(get, path = "/v1/trends/tags", tag = "trends", params(TrendParams), responses(
    (status = 200, body = TrendingTags), (status = "4XX", body = Problem), (status = "5XX", body = Problem),
))]
pub(crate) async fn tags(
    State(shared): State<Arc<Shared>>,
    Params(params): Params<TrendParams>,
) -> Answer<TrendingTags> {
    let (window, limit) = params.read()?;
    let trends = shared.state.ranker.trending_tags(window, limit).await?;
    let items = trends.items.into_iter().zip(1..).map(|(trend, rank)| TrendingTag {
        rank,
        rising: trend.is_rising(),
        tag: trend.id,
        score: trend.score,
        count: trend.count,
        baseline: trend.baseline,
    });
    Ok(Json(TrendingTags {
        window: window.as_str(),
        as_of: trends.as_of.map(|t| t.to_string()),
        items: items.collect(),
    }))
}

/// The posts that rise most against their own past.
#[utoipa::path(get, path = "/v1/trends/posts", tag = "trends", params(TrendParams), responses(
    (status = 200, body = TrendingPosts), (status = "4XX", body = Problem), (status = "5XX", body = Problem),
))]
pub(crate) async fn posts(
    State(shared): State<Arc<Shared>>,
    Params(params): Params<TrendParams>,
) -> Answer<TrendingPosts> {
    let (window, limit) = params.read()?;
    let trends = shared.state.ranker.trending_posts(window, limit).await?;
    let items = trends.items.into_iter().zip(1..).map(|(trend, rank)| TrendingPost {
        rank,
        rising: trend.is_rising(),
        post_id: trend.id,
        author_id: trend.author_id.unwrap_or_default(),
        score: trend.score,
        count: trend.count,
        baseline: trend.baseline,
    });
    Ok(Json(TrendingPosts {
        window: window.as_str(),
        as_of: trends.as_of.map(|t| t.to_string()),
        items: items.collect(),
    }))
}
