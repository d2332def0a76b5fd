-- JSON that keeps every digit. A number is written by `%d` and by nothing else: concatenation and cjson.encode
-- turn 123456789012345 into 1.2345678901234e+14.
local text = {}

local format, find = string.format, string.find

function text.quoted(value)
  if find(value, '[%c"\\]') then return cjson.encode(value) end
  return '"' .. value .. '"'
end

-- The same few numbers (a version, a balance, 0, 1) are written several times in a call, each by `%d` only once.
local integers = {}

function text.integer(value)
  local known = integers[value]
  if not known then
    known = format('%d', value)
    integers[value] = known
  end
  return known
end

-- The optional members of an object, each with its comma in front; those that are nil are left out.
function text.member(name, value)
  if value == nil then return '' end
  if type(value) == 'number' then return ',"' .. name .. '":' .. text.integer(value) end
  return ',"' .. name .. '":' .. text.quoted(value)
end

-- The members by which a reservation's entries are found: the provider's task and the model.
function text.references(of)
  local line = ''
  if of.task then line = text.member('task', of.task) end
  if of.provider then line = line .. text.member('provider', of.provider) end
  if of.model then line = line .. text.member('model', of.model) end
  return line
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
