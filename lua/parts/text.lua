--- @include parts/known
-- JSON that keeps every digit. A number is written by `%d` and by nothing else: concatenation and cjson.encode
-- turn 123456789012345 into 1.2345678901234e+14.
local text = {}

local format, find, byte = string.format, string.find, string.byte

-- `text.digits[n]`: for numbers of which a call has few (0, a priority, the time) and writes them often. One that hardly
-- comes twice (a version, a balance) costs half as much in a `%d` of its own.
text.digits = known(function(value) return format('%d', value) end)

local digits = text.digits

function text.quoted(value)
  if find(value, '[%c"\\]') then return cjson.encode(value) end
  return '"' .. value .. '"'
end

-- The optional members of an object, each with its comma in front; those that are nil are left out.
function text.member(name, value)
  if value == nil then return '' end
  return ',"' .. name .. '":' .. (type(value) == 'number' and digits[value] or text.quoted(value))
end

-- Members that many operations of a call share: who asks, with whose provider, for which model.
local by = known(function(value) return text.member('by', value) end)
local model = known(function(value) return text.member('model', value) end)
local provider = known(function(value) return text.member('provider', value) end)

function text.by(value) return value and by[value] or '' end
function text.model(value) return value and model[value] or '' end

-- The members by which a reservation's entries are found: the provider's task and the model.
function text.references(task, of_provider, of_model)
  local line = of_model and model[of_model] or ''
  if of_provider then line = provider[of_provider] .. line end
  return task and text.member('task', task) .. line or line
end

-- Whether `a` comes before `b`, byte by byte as everywhere else: `<` of two strings goes by the server's locale.
function text.before(a, b)
  for i = 1, math.min(#a, #b) do
    local of_a, of_b = byte(a, i), byte(b, i)
    if of_a ~= of_b then return of_a < of_b end
  end
  return #a < #b
end

-- The facts of a refusal: numbers and short words.
function text.object(members)
  local pieces = {}
  for name, value in pairs(members) do
    pieces[#pieces + 1] = text.member(name, value)
  end
  return '{' .. string.sub(table.concat(pieces), 2) .. '}'
end

return text
