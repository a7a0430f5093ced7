import { DataTypes } from 'sequelize'

export function defineCountry(sequelize) {
  return sequelize.define(
    'Country',
    {
      country_id: { type: DataTypes.INTEGER, primaryKey: true, autoIncrement: true },
      name: { type: DataTypes.STRING, allowNull: false, unique: true, validate: { len: [1, 100] } },
      is_eu_member: { type: DataTypes.BOOLEAN, allowNull: false, defaultValue: false },
    },
    { tableName: 'countries', timestamps: false },
  )
}

const FIRST = [
  { name: 'Estonia', is_eu_member: true },
  { name: 'Norway', is_eu_member: false },
  { name: 'Portugal', is_eu_member: true },
  { name: 'Switzerland', is_eu_member: false },
]

// The table, with a few countries to begin with.
export async function prepareCountries(database) {
  await database.write(async ({ Country }) => {
    await Country.sync()
    if ((await Country.count()) === 0) await Country.bulkCreate(FIRST, { ignoreDuplicates: true })
  })
}

// The name is unique and the row is inserted or brought to what is wanted: sent twice, it is still one country.
export function addCountry(database, country) {
  return database.write(async ({ Country }) => {
    const [row] = await Country.upsert(country, { conflictFields: ['name'], returning: true })
    return row
  })
}

export function firstCountries(database, limit) {
  return database.read(({ Country }) => Country.findAndCountAll({ order: ['name'], limit }))
}
