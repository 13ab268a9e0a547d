#include "launch/config/rope_settings.h"

#include "launch/config/run_config.h"

namespace carillon {
namespace {

// Reads a setting as a run's section `rope:` is read, for its errors.
void check(YamlNode setting) {
  for (YamlNode& key : setting.keys) {
    if (key.text == "rope_type") key.text = "type";
    if (key.text == "rope_theta") key.text = "base";
  }
  RopeSection rope;
  Schema schema;
  declare_rope(schema, rope);
  YamlNode section;
  section.kind = YamlNode::Kind::kMapping;
  section.keys.emplace_back().text = "rope";
  section.items.push_back(std::move(setting));
  schema.apply(section);
}

}  // namespace

Json read_rope_settings(const std::string& name, const YamlNode& node) {
  if (node.kind != YamlNode::Kind::kMapping)
    fail(ExitCode::kUsage, "{} is {}, {}, write {{own: {{}}, name: {{type: …}}}}", name, node.describe(), node.where);
  Json settings = detail::free_json(node);
  for (size_t i = 0; i < node.keys.size(); ++i) {
    if (node.keys[i].text.find_first_not_of(" \t") == std::string::npos)
      fail(ExitCode::kUsage, "a setting of {} has no name, {}, write {{name: {{type: …}}}}", name, node.keys[i].where);
    Json& setting = settings[node.keys[i].text];
    if (setting.is_null()) setting = Json::object();
    if (!setting.is_object())
      fail(ExitCode::kUsage, "the setting {} of {} is {}, {}, write keys of rope, such as {{type: yarn, factor: 4}}",
           node.keys[i].text, name, node.items[i].describe(), node.keys[i].where);
    check(node.items[i]);
  }
  return settings;
}

}  // namespace carillon
