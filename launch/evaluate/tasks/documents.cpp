#include "data/corpus/data_files.h"
#include "data/corpus/document_reader.h"
#include "data/files/same_files.h"
#include "launch/evaluate/tasks/task.h"

namespace carillon {

bool reads_documents(const Json& task) {
  return task.contains("data") && (task["task"] != "needle" || !task["data"].is_null());
}

std::vector<std::string> data_paths(const Json& task, const SweepConfig& config) {
  std::vector<std::string> paths;
  if (task["data"].is_null()) {
    for (const DataSource& source : config.data.validation) paths.push_back(source.path);
    return paths;
  }
  for (const Json& source : task["data"]) {
    if (!source.is_object() || !source.contains("path") || !source["path"].is_string())
      fail(ExitCode::kUsage, "data of task {} is {}, in tasks, write [{{path: FILE}}]", task["name"].get<std::string>(),
           source.dump());
    paths.push_back(source["path"].get<std::string>());
  }
  return paths;
}

void for_each_document(const TaskContext& context, bool count_bytes, const UseDocument& use) {
  std::unique_ptr<ChatTemplate> chat;
  std::unique_ptr<DocumentReader> reader;
  std::vector<std::string> paths;
  agree(context.world, [&] {
    paths = find_data_files(data_paths(context.point.task, context.config)).paths;
    chat = ChatTemplate::open(context.config.data.chat_template, context.tokenizer);
    reader = std::make_unique<DocumentReader>(
        paths, DocumentReaderOptions{context.tokenizer, std::nullopt, context.model.vocab_size, count_bytes, chat.get(),
                                     context.config.data.train_on});
  });
  require_same_text(context.world,
                    "the files or chat template of task " + context.point.task["name"].get<std::string>(),
                    fmt::format("{}\n{:016x}", fmt::join(paths, "\n"), chat->hash()));
  require_same_files(context.world, paths);
  for (bool more = true; more;) {
    Document document;
    agree(context.world, [&] { more = reader->next(document); });
    if (more) use(document);
  }
}

}  // namespace carillon
