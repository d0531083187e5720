//! Feeds.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use millrace_events::format_rfc3339;
use millrace_ranking::{
    AuthorQuery, Explain, Filtered, HomeQuery, LIMIT_MAX, Parts, ScoreParts, SlateItem, SourceReport,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Answer;
use super::query::{Id, Params, flag, limit};
use crate::api::Shared;
use crate::error::{ApiError, Problem};

/// The parameters of a home feed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct HomeParams {
    /// For whom.
    #[param(required = true, min_length = 1, max_length = 200)]
    viewer: Option<String>,
    /// How many items, 1 to 100; 20 when absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Whether to say how the slate came about.
    #[param(value_type = Option<bool>)]
    explain: Option<String>,
}

/// A ranked feed.
#[derive(Serialize, ToSchema)]
pub(crate) struct HomeFeed {
    /// Names the ranked list; the pages of one feed share it. Send it with the actions it leads to.
    slate: String,
    viewer: String,
    /// Best first.
    items: Vec<HomeItem>,
    /// Where to go on; null at the end.
    next_cursor: Option<String>,
    model: HomeModel,
    /// The log time up to which this answer is complete; null before anything was applied.
    as_of: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    explain: Option<HomeExplain>,
}

/// One served post.
#[derive(Serialize, ToSchema)]
pub(crate) struct HomeItem {
    /// Its place in the ranked list, from 0, going on over the pages.
    position: usize,
    post_id: String,
    author_id: String,
    /// What ordered the slate, 0 to 1.
    score: f64,
    /// The source that brought it.
    reason: &'static str,
}

/// What scored a slate.
#[derive(Serialize, ToSchema)]
pub(crate) struct HomeModel {
    name: &'static str,
    version: &'static str,
}

/// How a slate came about.
#[derive(Serialize, ToSchema)]
pub(crate) struct HomeExplain {
    /// What each source brought.
    sources: Vec<HomeSource>,
    /// Which candidates may not be shown.
    filtered: Vec<HomeFiltered>,
    /// What the scores are made of; on the first page only, where they are computed.
    scores: Vec<HomeScore>,
    /// What a reader should know, such as why the feed is empty.
    notes: Vec<String>,
}

/// What a source brought.
#[derive(Serialize, ToSchema)]
pub(crate) struct HomeSource {
    name: &'static str,
    candidates: usize,
    took_us: u64,
    /// Left out because it was not there in time.
    late: bool,
    /// Left out because it could not be read.
    failed: bool,
}

/// A candidate that may not be shown.
#[derive(Serialize, ToSchema)]
pub(crate) struct HomeFiltered {
    post_id: String,
    filter: &'static str,
    why: &'static str,
}

/// The parts of one score.
#[derive(Serialize, ToSchema)]
pub(crate) struct HomeScore {
    post_id: String,
    parts: HomeParts,
}

/// What a score is made of, each from 0 to 1, to the millionth.
#[derive(Serialize, ToSchema)]
pub(crate) struct HomeParts {
    recency: f64,
    affinity: f64,
    engagement: f64,
    /// What being from its source multiplied the sum with.
    source: f64,
    diversity: f64,
}

/// A page of a viewer's home feed.
#[utoipa::path(get, path = "/v1/feeds/home", tag = "feeds", params(HomeParams), responses(
    (status = 200, body = HomeFeed), (status = "4XX", body = Problem), (status = "5XX", body = Problem),
))]
pub(crate) async fn home(State(shared): State<Arc<Shared>>, Params(params): Params<HomeParams>) -> Answer<HomeFeed> {
    let missing = || ApiError::invalid("missing_viewer", "say for whom: viewer=…");
    let viewer = params.viewer.filter(|viewer| !viewer.is_empty()).ok_or_else(missing)?;
    let query = HomeQuery {
        record_rate: shared.state.slates.wants(&viewer),
        viewer,
        limit: limit(params.limit.as_deref(), LIMIT_MAX)?,
        cursor: params.cursor.filter(|cursor| !cursor.is_empty()),
        explain: flag("explain", params.explain.as_deref())?,
    };
    let slate = shared.state.ranker.home(query).await?;
    count_left_out(&slate.sources);
    if let Some(record) = slate.record {
        shared.state.slates.record(*record);
    }
    Ok(Json(HomeFeed {
        slate: slate.slate,
        viewer: slate.viewer,
        items: slate.items.into_iter().map(HomeItem::from).collect(),
        next_cursor: slate.next_cursor,
        model: HomeModel { name: slate.model.name, version: slate.model.version },
        as_of: slate.as_of.map(|t| t.to_string()),
        explain: slate.explain.map(|explain| home_explain(slate.sources, explain)),
    }))
}

/// A feed without one of its sources is an answer all the same, so only this shows that something is wrong.
fn count_left_out(sources: &[SourceReport]) {
    for source in sources.iter().filter(|source| source.late || source.failed) {
        let why = if source.late { "late" } else { "failed" };
        metrics::counter!("millrace_ranking_sources_left_out_total", "source" => source.name, "why" => why)
            .increment(1);
    }
}

impl From<SlateItem> for HomeItem {
    fn from(item: SlateItem) -> Self {
        let SlateItem { position, post_id, author_id, score, reason } = item;
        Self { position, post_id, author_id, score, reason }
    }
}

fn home_explain(sources: Vec<SourceReport>, explain: Explain) -> HomeExplain {
    let source = |SourceReport { name, candidates, took_us, late, failed }| HomeSource {
        name,
        candidates,
        took_us,
        late,
        failed,
    };
    let filtered = |Filtered { post_id, filter, why }| HomeFiltered { post_id, filter, why };
    let score = |ScoreParts { post_id, parts }| {
        let Parts { recency, affinity, engagement, source, diversity } = parts;
        let [recency, affinity, engagement, source, diversity] =
            [recency, affinity, engagement, source, diversity].map(|part| (part * 1e6).round() / 1e6);
        HomeScore { post_id, parts: HomeParts { recency, affinity, engagement, source, diversity } }
    };
    HomeExplain {
        sources: sources.into_iter().map(source).collect(),
        filtered: explain.filtered.into_iter().map(filtered).collect(),
        scores: explain.scores.into_iter().map(score).collect(),
        notes: explain.notes,
    }
}

/// The parameters of an author's feed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuthorParams {
    /// How many items, 1 to 100; 20 when absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A page of an author's posts.
#[derive(Serialize, ToSchema)]
pub(crate) struct AuthorFeed {
    /// Newest first.
    items: Vec<AuthorFeedItem>,
    /// Where to go on; null at the end.
    next_cursor: Option<String>,
    /// The log time up to which this answer is complete; null before anything was applied.
    as_of: Option<String>,
}

/// One post of an author.
#[derive(Serialize, ToSchema)]
pub(crate) struct AuthorFeedItem {
    post_id: String,
    author_id: String,
    /// RFC 3339.
    created_at: String,
}

/// A page of an author's posts, newest first.
#[utoipa::path(get, path = "/v1/feeds/author/{author_id}", tag = "feeds",
    params(
        ("author_id" = String, Path, description = "Whose", min_length = 1, max_length = 200,
            pattern = r"^[^\x00-\x1f\x7f-\x9f]+$"),
        AuthorParams,
    ), responses(
    (status = 200, body = AuthorFeed), (status = "4XX", body = Problem), (status = "5XX", body = Problem),
))]
pub(crate) async fn author(
    State(shared): State<Arc<Shared>>,
    Id(author): Id,
    Params(params): Params<AuthorParams>,
) -> Answer<AuthorFeed> {
    let limit = limit(params.limit.as_deref(), LIMIT_MAX)?;
    let cursor = params.cursor.filter(|cursor| !cursor.is_empty());
    let page = shared.state.ranker.author(AuthorQuery { author, limit, cursor }).await?;
    let item = |item: millrace_ranking::AuthorItem| AuthorFeedItem {
        post_id: item.post_id,
        author_id: item.author_id,
        created_at: format_rfc3339(item.created_at_us),
    };
    Ok(Json(AuthorFeed {
        items: page.items.into_iter().map(item).collect(),
        next_cursor: page.next_cursor,
        as_of: page.as_of.map(|t| t.to_string()),
    }))
}
