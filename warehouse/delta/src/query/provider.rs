//! A table as its files, for the engine.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, Result, ScalarValue, project_schema};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use millrace_warehouse::Table;
use millrace_warehouse::tables::DATE_COLUMN;
use object_store::ObjectMeta;

use super::prune::prune;
use crate::files::{ActiveFile, Files};

/// The files of a table at one version.
#[derive(Debug)]
pub(super) struct FilesTable {
    table: Table,
    schema: TableSchema,
    files: Files,
}

impl FilesTable {
    pub(super) fn new(table: Table, files: Files) -> Self {
        let schema = table.schema();
        let (dates, columns): (Vec<_>, Vec<_>) =
            schema.fields().iter().cloned().partition(|field| field.name() == DATE_COLUMN);
        let columns: Vec<Field> = columns.iter().map(|field| view(field)).collect();
        let schema = TableSchema::builder(Arc::new(Schema::new(columns))).with_table_partition_cols(dates).build();
        Self { table, schema, files }
    }

    fn predicate(&self, state: &dyn Session, filters: &[Expr]) -> Result<Option<Arc<dyn PhysicalExpr>>> {
        let Some(filter) = conjunction(filters.to_vec()) else { return Ok(None) };
        let schema = DFSchema::try_from(self.schema())?;
        state.create_physical_expr(filter, &schema).map(Some)
    }
}

/// Text as the engine computes with it best: short values inline, long ones by reference into the page that was read.
fn view(field: &Field) -> Field {
    match field.data_type() {
        DataType::Utf8 => field.clone().with_data_type(DataType::Utf8View),
        _ => field.clone(),
    }
}

#[async_trait]
impl TableProvider for FilesTable {
    fn schema(&self) -> SchemaRef {
        self.schema.table_schema().clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Files are left out here; row groups, pages and rows while reading.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let predicate = self.predicate(state, filters)?;
        let files = prune(self.table, &self.schema(), &self.files, predicate);
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(project_schema(&self.schema(), projection)?)));
        }
        let url = ObjectStoreUrl::local_filesystem();
        let runtime = state.runtime_env();
        let footers = runtime.cache_manager.get_file_metadata_cache();
        let reader = CachedParquetFileReaderFactory::new(runtime.object_store(&url)?, footers);
        let mut parquet = state.default_table_options().parquet;
        parquet.global = state.config_options().execution.parquet.clone();
        let source = ParquetSource::new(self.schema.clone())
            .with_table_parquet_options(parquet)
            .with_parquet_file_reader_factory(Arc::new(reader));
        let group = FileGroup::new(files.iter().map(|file| partitioned(file)).collect());
        let config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(group.split_files(state.config().target_partitions()))
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// A file with its date, which stands in its path and not among its columns.
fn partitioned(file: &ActiveFile) -> PartitionedFile {
    let location = file.location.clone();
    // A file is never written twice under one name, so no time is needed to tell whether its footer is still the same.
    let meta = ObjectMeta { location, last_modified: Default::default(), size: file.size, e_tag: None, version: None };
    PartitionedFile::new_from_meta(meta).with_partition_values(vec![ScalarValue::Date32(Some(file.date))])
}
