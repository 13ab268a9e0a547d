// A machine profile as JSON: every field under its own name.
#include <algorithm>
#include <utility>

#include "launch/machine/machine_profile.h"
#include "runtime/json_lines.h"
#include "runtime/text.h"

namespace carillon {
namespace {

// Increased when a field changes its meaning; an older file must then be measured again.
constexpr int kVersion = 1;

constexpr std::string_view kRemedy = "measure again with carillon bench";

constexpr DType kTypes[] = {DType::kFloat64, DType::kFloat32, DType::kBFloat16};

Json link_json(const Link& link) {
  return {{"bytes_per_second", link.bytes_per_second}, {"latency_seconds", link.latency_seconds}};
}

// For people only: derived from the rates and not read back.
void add_share(Json& entry, const char* key, double rate, double peak) {
  if (peak > 0) entry[key] = rate / peak;
}

Json messages_json(const std::vector<MessageTimes>& all) {
  Json list = Json::array();
  for (const MessageTimes& messages : all) {
    Json times = Json::array();
    for (const auto& [bytes, seconds] : messages.seconds) times.push_back({{"bytes", bytes}, {"seconds", seconds}});
    list.push_back({{"operation", messages.operation},
                    {"group", messages.group},
                    {"ranks", messages.ranks},
                    {"fit", link_json(messages.fit)},
                    {"times", times}});
  }
  return list;
}

Json pairs_json(const std::vector<PairLink>& all) {
  Json list = Json::array();
  for (const PairLink& pair : all)
    list.push_back({{"from", pair.from},
                    {"to", pair.to},
                    {"between_nodes", pair.between_nodes},
                    {"bytes_per_second", pair.link.bytes_per_second},
                    {"latency_seconds", pair.link.latency_seconds}});
  return list;
}

double rate(const JsonFields& fields, const std::string& key) { return fields.number(key, 0); }

int count(const JsonFields& fields, const std::string& key, int64_t least) {
  return static_cast<int>(fields.integer(key, least, INT32_MAX));
}

Link own_link(const JsonFields& fields) { return {rate(fields, "bytes_per_second"), rate(fields, "latency_seconds")}; }

// Reads a mapping from types, each value through `read(fields, key)`.
template <class Read>
auto by_type(const JsonFields& types, Read read) {
  std::map<DType, std::invoke_result_t<Read, const JsonFields&, const std::string&>> result;
  for (const auto& item : types.json().items()) {
    const auto dtype =
        std::find_if(std::begin(kTypes), std::end(kTypes), [&](DType d) { return name_of(d) == item.key(); });
    if (dtype == std::end(kTypes)) types.refuse(item.key(), "no type is called so");
    result[*dtype] = read(types, item.key());
  }
  return result;
}

}  // namespace

MachineProfile parse_machine_profile(const std::string& text, const std::string& path) {
  const Json json = parse_json_object(text, "the machine profile " + printable(path), kRemedy);
  const JsonFields reader(json, {path, std::string(kRemedy)});
  if (const int64_t version = reader.integer("version", 0); version != kVersion)
    fail(ExitCode::kBadInput,
         "the machine profile is of version {}, this carillon reads {}, {}, measure again with carillon bench", version,
         kVersion, printable(path));
  MachineProfile profile;
  profile.name = reader.text("name");
  profile.device = reader.text("device");
  profile.processor = reader.text("processor");
  profile.instruction_set = reader.text("instruction_set");
  profile.threads = count(reader, "threads", 1);
  profile.ranks_per_node = count(reader, "ranks_per_node", 1);
  profile.memory_bytes = reader.integer("memory_bytes", 0);
  profile.host_memory_bytes = reader.integer("host_memory_bytes", 0);
  profile.library_bytes = reader.integer("library_bytes", 0);
  if (reader.has("library_ranks")) profile.library_ranks = count(reader, "library_ranks", 1);
  profile.products = by_type(reader.object("products"), [](const JsonFields& types, const std::string& type) {
    return types.list(type, [](const JsonFields& entry) {
      return ProductRate{entry.integer("rows", 1), entry.integer("inner", 1), entry.integer("columns", 1),
                         rate(entry, "flops_per_second")};
    });
  });
  profile.attention = by_type(reader.object("attention"), [](const JsonFields& types, const std::string& type) {
    return types.list(type, [](const JsonFields& entry) {
      return AttentionRate{entry.integer("head_dim", 1), entry.integer("length", 1),
                           rate(entry, "forward_flops_per_second"), rate(entry, "backward_flops_per_second"),
                           entry.has("engine") ? entry.text("engine") : ""};
    });
  });
  profile.memory_bytes_per_second = rate(reader, "memory_bytes_per_second");
  profile.op_seconds = rate(reader, "op_seconds");
  profile.within_node = own_link(reader.object("within_node"));
  profile.between_nodes = own_link(reader.object("between_nodes"));
  profile.host = own_link(reader.object("host"));
  profile.disk_write_bytes_per_second = rate(reader, "disk_write_bytes_per_second");
  profile.disk_read_bytes_per_second = rate(reader, "disk_read_bytes_per_second");
  if (!reader.has("peak_flops_per_second")) return profile;  // a file from before the fields below existed
  profile.peak_flops_per_second = by_type(reader.object("peak_flops_per_second"), rate);
  profile.peak_memory_bytes_per_second = rate(reader, "peak_memory_bytes_per_second");
  profile.peak_source = reader.text("peak_source");
  profile.to_device_bytes_per_second = rate(reader, "to_device_bytes_per_second");
  profile.to_host_bytes_per_second = rate(reader, "to_host_bytes_per_second");
  profile.messages = reader.list("messages", [](const JsonFields& entry) {
    MessageTimes messages{
        entry.text("operation"), entry.text("group"), count(entry, "ranks", 1), {}, own_link(entry.object("fit"))};
    messages.seconds = entry.list(
        "times", [](const JsonFields& time) { return std::pair(time.integer("bytes", 0), rate(time, "seconds")); });
    return messages;
  });
  profile.pairs = reader.list("pairs", [](const JsonFields& entry) {
    return PairLink{count(entry, "from", 0), count(entry, "to", 0), entry.boolean("between_nodes"), own_link(entry)};
  });
  return profile;
}

std::string machine_profile_json(const MachineProfile& profile) {
  Json products = Json::object(), attention = Json::object(), peaks = Json::object();
  for (const auto& [dtype, peak] : profile.peak_flops_per_second) peaks[std::string(name_of(dtype))] = peak;
  const auto peak_of = [&](DType dtype) {
    const auto found = profile.peak_flops_per_second.find(dtype);
    return found == profile.peak_flops_per_second.end() ? 0 : found->second;
  };
  for (const auto& [dtype, rates] : profile.products) {
    Json& list = products[std::string(name_of(dtype))] = Json::array();
    for (const ProductRate& rate : rates) {
      list.push_back({{"rows", rate.rows},
                      {"inner", rate.inner},
                      {"columns", rate.columns},
                      {"flops_per_second", rate.flops_per_second}});
      add_share(list.back(), "share_of_peak", rate.flops_per_second, peak_of(dtype));
    }
  }
  for (const auto& [dtype, rates] : profile.attention) {
    Json& list = attention[std::string(name_of(dtype))] = Json::array();
    for (const AttentionRate& rate : rates) {
      list.push_back({{"head_dim", rate.head_dim},
                      {"length", rate.length},
                      {"forward_flops_per_second", rate.forward_flops_per_second},
                      {"backward_flops_per_second", rate.backward_flops_per_second}});
      if (!rate.engine.empty()) list.back()["engine"] = rate.engine;
      add_share(list.back(), "forward_share_of_peak", rate.forward_flops_per_second, peak_of(dtype));
      add_share(list.back(), "backward_share_of_peak", rate.backward_flops_per_second, peak_of(dtype));
    }
  }
  Json json = {{"version", kVersion},
               {"name", profile.name},
               {"device", profile.device},
               {"processor", profile.processor},
               {"instruction_set", profile.instruction_set},
               {"threads", profile.threads},
               {"ranks_per_node", profile.ranks_per_node},
               {"memory_bytes", profile.memory_bytes},
               {"host_memory_bytes", profile.host_memory_bytes},
               {"library_bytes", profile.library_bytes},
               {"library_ranks", profile.library_ranks},
               {"products", products},
               {"attention", attention},
               {"memory_bytes_per_second", profile.memory_bytes_per_second},
               {"op_seconds", profile.op_seconds},
               {"within_node", link_json(profile.within_node)},
               {"between_nodes", link_json(profile.between_nodes)},
               {"host", link_json(profile.host)},
               {"disk_write_bytes_per_second", profile.disk_write_bytes_per_second},
               {"disk_read_bytes_per_second", profile.disk_read_bytes_per_second},
               {"peak_flops_per_second", peaks},
               {"peak_memory_bytes_per_second", profile.peak_memory_bytes_per_second},
               {"peak_source", profile.peak_source},
               {"to_device_bytes_per_second", profile.to_device_bytes_per_second},
               {"to_host_bytes_per_second", profile.to_host_bytes_per_second},
               {"messages", messages_json(profile.messages)},
               {"pairs", pairs_json(profile.pairs)}};
  add_share(json, "memory_share_of_peak", profile.memory_bytes_per_second, profile.peak_memory_bytes_per_second);
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace carillon
