// A machine profile as JSON: every field under its own name.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "launch/machine/machine_profile.h"
#include "runtime/text.h"

namespace carillon {
namespace {

using Json = nlohmann::ordered_json;

// Raised when a field changes its meaning; an older file is then measured again rather than guessed at.
constexpr int kVersion = 1;

constexpr DType kTypes[] = {DType::kFloat64, DType::kFloat32, DType::kBFloat16};

Json link_json(const Link& link) {
  return {{"bytes_per_second", link.bytes_per_second}, {"latency_seconds", link.latency_seconds}};
}

// Written for people, made from the rates, so not read again.
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

// Reads members and remembers where it is, so that a damaged file is named down to the field.
class Reader {
 public:
  Reader(const Json& json, std::string path, std::string place)
      : json_(json), path_(std::move(path)), place_(std::move(place)) {
    if (!json_.is_object()) refuse("is no object", "");
  }

  double rate(const char* key) const {
    const Json& value = member(key);
    if (!value.is_number() || !(value.get<double>() >= 0)) refuse("is no number that is 0 or more", key);
    return value.get<double>();
  }
  int64_t integer(const char* key, int64_t least) const {
    const Json& value = member(key);
    if (!value.is_number_integer() || value.get<int64_t>() < least)
      refuse(fmt::format("is no integer of at least {}", least), key);
    return value.get<int64_t>();
  }
  std::string text(const char* key) const {
    if (!member(key).is_string()) refuse("is no text", key);
    return member(key).get<std::string>();
  }
  Reader object(const char* key) const { return Reader(member(key), path_, place_ + key + "."); }
  bool flag(const char* key) const {
    if (!member(key).is_boolean()) refuse("is neither true nor false", key);
    return member(key).get<bool>();
  }
  Link own_link() const { return {rate("bytes_per_second"), rate("latency_seconds")}; }
  Link link(const char* key) const { return object(key).own_link(); }
  bool has(const char* key) const { return json_.contains(key); }
  // A list of objects, each through `read`.
  template <class Entry, class Read>
  std::vector<Entry> list(const char* key, Read read) const {
    const Json& items = member(key);
    if (!items.is_array()) refuse("is no list", key);
    std::vector<Entry> result;
    for (size_t i = 0; i < items.size(); ++i)
      result.push_back(read(Reader(items[i], path_, fmt::format("{}{}[{}].", place_, key, i))));
    return result;
  }
  // A mapping from types to rates.
  std::map<DType, double> rates_by_type(const char* key) const {
    std::map<DType, double> result;
    const Reader types = object(key);
    for (const auto& [name, value] : types.json_.items()) result[types.type_called(name)] = types.rate(name.c_str());
    return result;
  }
  // The lists of a mapping from types, each entry through `read`.
  template <class Entry, class Read>
  std::map<DType, std::vector<Entry>> by_type(const char* key, Read read) const {
    std::map<DType, std::vector<Entry>> result;
    const Reader types = object(key);
    for (const auto& item : types.json_.items())
      result[types.type_called(item.key())] = types.list<Entry>(item.key().c_str(), read);
    return result;
  }

 private:
  DType type_called(const std::string& name) const {
    const auto dtype = std::find_if(std::begin(kTypes), std::end(kTypes), [&](DType d) { return name_of(d) == name; });
    if (dtype == std::end(kTypes)) refuse("is no known type", name);
    return *dtype;
  }
  const Json& member(const char* key) const {
    if (!json_.contains(key)) refuse("is missing", key);
    return json_.at(key);
  }
  [[noreturn]] void refuse(const std::string& what, const std::string& key) const {
    const std::string name = place_ + key;
    fail(ExitCode::kBadInput, "{} {}, {}, measure again with carillon bench",
         name.empty() ? "the machine profile" : printable(name), what, printable(path_));
  }

  const Json& json_;
  std::string path_, place_;
};

}  // namespace

MachineProfile parse_machine_profile(const std::string& text, const std::string& path) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  const Reader reader(json, path, "");
  if (const int64_t version = reader.integer("version", 0); version != kVersion)
    fail(ExitCode::kBadInput,
         "the machine profile is of version {}, this carillon reads {}, {}, measure again with carillon bench", version,
         kVersion, printable(path));
  MachineProfile profile;
  profile.name = reader.text("name");
  profile.device = reader.text("device");
  profile.processor = reader.text("processor");
  profile.instruction_set = reader.text("instruction_set");
  profile.threads = static_cast<int>(reader.integer("threads", 1));
  profile.ranks_per_node = static_cast<int>(reader.integer("ranks_per_node", 1));
  profile.memory_bytes = reader.integer("memory_bytes", 0);
  profile.host_memory_bytes = reader.integer("host_memory_bytes", 0);
  profile.library_bytes = reader.integer("library_bytes", 0);
  profile.products = reader.by_type<ProductRate>("products", [](const Reader& entry) {
    return ProductRate{entry.integer("rows", 1), entry.integer("inner", 1), entry.integer("columns", 1),
                       entry.rate("flops_per_second")};
  });
  profile.attention = reader.by_type<AttentionRate>("attention", [](const Reader& entry) {
    return AttentionRate{entry.integer("head_dim", 1), entry.integer("length", 1),
                         entry.rate("forward_flops_per_second"), entry.rate("backward_flops_per_second")};
  });
  profile.memory_bytes_per_second = reader.rate("memory_bytes_per_second");
  profile.op_seconds = reader.rate("op_seconds");
  profile.within_node = reader.link("within_node");
  profile.between_nodes = reader.link("between_nodes");
  profile.host = reader.link("host");
  profile.disk_write_bytes_per_second = reader.rate("disk_write_bytes_per_second");
  profile.disk_read_bytes_per_second = reader.rate("disk_read_bytes_per_second");
  if (!reader.has("peak_flops_per_second")) return profile;  // written before there was the rest
  profile.peak_flops_per_second = reader.rates_by_type("peak_flops_per_second");
  profile.peak_memory_bytes_per_second = reader.rate("peak_memory_bytes_per_second");
  profile.peak_source = reader.text("peak_source");
  profile.to_device_bytes_per_second = reader.rate("to_device_bytes_per_second");
  profile.to_host_bytes_per_second = reader.rate("to_host_bytes_per_second");
  profile.messages = reader.list<MessageTimes>("messages", [](const Reader& entry) {
    MessageTimes messages{entry.text("operation"),
                          entry.text("group"),
                          static_cast<int>(entry.integer("ranks", 1)),
                          {},
                          entry.link("fit")};
    messages.seconds = entry.list<std::pair<int64_t, double>>(
        "times", [](const Reader& time) { return std::pair(time.integer("bytes", 0), time.rate("seconds")); });
    return messages;
  });
  profile.pairs = reader.list<PairLink>("pairs", [](const Reader& entry) {
    return PairLink{static_cast<int>(entry.integer("from", 0)), static_cast<int>(entry.integer("to", 0)),
                    entry.flag("between_nodes"), entry.own_link()};
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
